//! libseccomp, opened at run time, as the judge of our programs.
//!
//! Opened and not linked: a machine without it can still build every test, and this one says what to
//! install. The profile is fed as runc feeds it.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg};
use seedpod::seccomp::sock_filter;

/// `struct scmp_arg_cmp`
#[repr(C)]
#[derive(Clone, Copy)]
struct Comparison {
    argument: c_uint,
    operator: c_int,
    first: u64,
    second: u64,
}

type Context = *mut c_void;

/// The functions that are needed, by their names in libseccomp.
pub struct Library {
    init: unsafe extern "C" fn(u32) -> Context,
    release: unsafe extern "C" fn(Context),
    arch_add: unsafe extern "C" fn(Context, u32) -> c_int,
    arch_remove: unsafe extern "C" fn(Context, u32) -> c_int,
    rule_add_array: unsafe extern "C" fn(Context, u32, c_int, c_uint, *const Comparison) -> c_int,
    export_bpf: unsafe extern "C" fn(Context, c_int) -> c_int,
    resolve_name: unsafe extern "C" fn(*const c_char) -> c_int,
    resolve_name_arch: unsafe extern "C" fn(u32, *const c_char) -> c_int,
}

/// `__NR_SCMP_ERROR`: the name is no system call anywhere.
const UNKNOWN: c_int = -1;

macro_rules! symbol {
    ($handle:expr, $name:literal) => {{
        let name = concat!("seccomp_", $name, "\0");
        // SAFETY: the handle is open, the name ends with a zero byte.
        let address = unsafe { libc::dlsym($handle, name.as_ptr().cast()) };
        assert!(!address.is_null(), "libseccomp has no seccomp_{}", $name);
        // The type is the field's, which the macro does not repeat.
        #[allow(clippy::missing_transmute_annotations)]
        // SAFETY: the field's type is the function's declaration in seccomp.h.
        unsafe {
            std::mem::transmute(address)
        }
    }};
}

impl Library {
    /// Opens the library, or stops the test with what to install.
    pub fn open() -> Self {
        // SAFETY: a constant string that ends with a zero byte; the library has no constructors
        // that do anything.
        let handle = unsafe { libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW) };
        assert!(
            !handle.is_null(),
            "libseccomp.so.2 is needed to compare with: install the Debian package libseccomp2 \
             (libseccomp-dev brings it too)"
        );
        let api_set: unsafe extern "C" fn(c_uint) -> c_int = symbol!(handle, "api_set");
        // SAFETY: takes a number. Every action is wanted, whatever this machine's kernel has.
        let code = unsafe { api_set(6) };
        assert_eq!(code, 0, "libseccomp 2.5 or newer is needed");
        Self {
            init: symbol!(handle, "init"),
            release: symbol!(handle, "release"),
            arch_add: symbol!(handle, "arch_add"),
            arch_remove: symbol!(handle, "arch_remove"),
            rule_add_array: symbol!(handle, "rule_add_array"),
            export_bpf: symbol!(handle, "export_bpf"),
            resolve_name: symbol!(handle, "syscall_resolve_name"),
            resolve_name_arch: symbol!(handle, "syscall_resolve_name_arch"),
        }
    }

    /// The number of a call on an architecture, x32's bit included.
    pub fn number(&self, arch: Arch, name: &str) -> Option<u32> {
        let name = CString::new(name).unwrap();
        // SAFETY: a string that ends with a zero byte.
        let number = unsafe { (self.resolve_name_arch)(arch as u32, name.as_ptr()) };
        u32::try_from(number).ok()
    }

    /// The filter of a profile for these architectures, or the errno with which libseccomp refuses.
    pub fn compile(
        &self,
        profile: &LinuxSeccomp,
        architectures: &[Arch],
    ) -> Result<Vec<sock_filter>, c_int> {
        let default = action(profile.default_action(), profile.default_errno_ret());
        // SAFETY: takes a number; the context is released below.
        let context = unsafe { (self.init)(default) };
        assert!(!context.is_null(), "seccomp_init({default:#x})");
        let result = self.fill(context, profile, default, architectures);
        let program = result.map(|()| self.export(context));
        // SAFETY: made above, and not used again.
        unsafe { (self.release)(context) };
        program
    }

    fn fill(
        &self,
        context: Context,
        profile: &LinuxSeccomp,
        default: u32,
        architectures: &[Arch],
    ) -> Result<(), c_int> {
        // SAFETY: the context is live; arguments are numbers. The native architecture is taken out
        // first, so that the list alone counts.
        unsafe {
            for arch in architectures {
                let code = (self.arch_add)(context, *arch as u32);
                assert!(code == 0 || code == -libc::EEXIST, "arch_add: {code}");
            }
            for arch in [Arch::ScmpArchX86_64, Arch::ScmpArchAarch64] {
                if !architectures.contains(&arch) {
                    (self.arch_remove)(context, arch as u32);
                }
            }
        }
        for call in profile.syscalls().iter().flatten() {
            let value = action(call.action(), call.errno_ret());
            if value == default {
                continue;
            }
            for name in call.names() {
                let name = CString::new(name.as_str()).unwrap();
                // SAFETY: a string that ends with a zero byte.
                let number = unsafe { (self.resolve_name)(name.as_ptr()) };
                if number == UNKNOWN {
                    continue;
                }
                for set in rule_sets(call.args().as_deref().unwrap_or_default()) {
                    let count = c_uint::try_from(set.len()).unwrap();
                    // SAFETY: the context is live, and the array has as many elements as said.
                    let code = unsafe {
                        (self.rule_add_array)(context, value, number, count, set.as_ptr())
                    };
                    if code != 0 {
                        return Err(-code);
                    }
                }
            }
        }
        Ok(())
    }

    fn export(&self, context: Context) -> Vec<sock_filter> {
        let name: &CStr = c"filter";
        // SAFETY: a new descriptor that nobody else has.
        let mut file = unsafe {
            let descriptor = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
            assert!(descriptor >= 0, "memfd_create");
            File::from_raw_fd(descriptor)
        };
        // SAFETY: the context is live, and the descriptor is open.
        let code = unsafe { (self.export_bpf)(context, file.as_raw_fd()) };
        assert_eq!(code, 0, "seccomp_export_bpf");
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let instruction = |raw: &[u8]| sock_filter {
            code: u16::from_le_bytes([raw[0], raw[1]]),
            jt: raw[2],
            jf: raw[3],
            k: u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
        };
        bytes.chunks_exact(8).map(instruction).collect()
    }
}

/// runc's reading of `args`: all must hold, unless one argument is looked at twice.
fn rule_sets(arguments: &[LinuxSeccompArg]) -> Vec<Vec<Comparison>> {
    let one = |argument: &LinuxSeccompArg| Comparison {
        argument: c_uint::try_from(argument.index()).unwrap(),
        operator: c_int::try_from(argument.op() as u32).unwrap(),
        first: argument.value(),
        second: argument.value_two().unwrap_or(0),
    };
    let all: Vec<Comparison> = arguments.iter().map(one).collect();
    let repeated = (0..6).any(|index| all.iter().filter(|c| c.argument == index).count() > 1);
    if repeated {
        all.into_iter().map(|comparison| vec![comparison]).collect()
    } else {
        vec![all]
    }
}

/// `SCMP_ACT_*`, whose values are the kernel's.
pub fn action(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    action.as_u32(errno)
}
