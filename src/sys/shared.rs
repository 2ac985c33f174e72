//! One page that a parent and its children share: what a child writes there is still there when
//! it has been killed.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use super::Result;

/// What the child leaves in the page.
#[repr(C)]
struct Fields {
    step: AtomicU32,
    pid: AtomicU32,
}

/// A shared page (mmap(2), `MAP_SHARED|MAP_ANONYMOUS`).
#[derive(Debug)]
pub struct SharedPage {
    page: std::ptr::NonNull<libc::c_void>,
}

const SIZE: usize = 4096;

impl SharedPage {
    /// A new page, all zero.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn new() -> Result<Self> {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, access, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        std::ptr::NonNull::new(page)
            .map(|page| Self { page })
            .ok_or(Errno::ENOMEM)
    }

    fn fields(&self) -> &Fields {
        // SAFETY: the mapping is page-aligned, zeroed at birth, larger than `Fields`, and lives
        // until drop; both sides touch it only through atomics, of which all bit patterns are
        // valid.
        unsafe { self.page.cast::<Fields>().as_ref() }
    }

    /// The number of the step that the child is at.
    pub fn step(&self) -> u32 {
        self.fields().step.load(Ordering::Acquire)
    }

    /// Notes the step that begins.
    pub fn set_step(&self, step: u32) {
        self.fields().step.store(step, Ordering::Release);
    }

    /// The pid that the stage reported, as the stage saw it; 0 before.
    pub fn pid(&self) -> libc::pid_t {
        self.fields().pid.load(Ordering::Acquire).cast_signed()
    }

    /// Notes a pid.
    pub fn set_pid(&self, pid: libc::pid_t) {
        self.fields()
            .pid
            .store(pid.cast_unsigned(), Ordering::Release);
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this size, and no reference outlives `self`.
        unsafe { libc::munmap(self.page.as_ptr(), SIZE) };
    }
}
