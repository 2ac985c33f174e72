//! The architectures that one kernel serves, and how system calls arrive from each of them.
//!
//! `seccomp_data.arch` tells x86 from x86_64 and arm from aarch64. x32 has x86_64's value and a bit
//! in the number. Everything else about an architecture that the compiler needs is data here, so
//! that both machines are compiled and proven on either.

use oci_spec::runtime::Arch;

use super::tables::{self, Table};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;
/// `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;

/// One architecture: how its calls look to a filter.
pub(super) struct Abi {
    /// Its names in a profile.
    pub(super) arch: Arch,
    /// Its column in the machine's table.
    pub(super) column: usize,
    /// The number that its call 0 has in `seccomp_data.nr`.
    pub(super) base: u32,
    /// Whether arguments are compared as 64 bits.
    pub(super) wide: bool,
    /// The multiplexing calls socketcall(2) and ipc(2), where the architecture has them.
    pub(super) multiplexers: Option<Multiplexers>,
}

/// The numbers of the two calls whose first argument names another call.
pub(super) struct Multiplexers {
    pub(super) socketcall: u32,
    pub(super) ipc: u32,
}

/// The architectures that share one value of `seccomp_data.arch`, in the order of their bases.
pub(super) struct Family {
    /// The value of `seccomp_data.arch`.
    pub(super) audit: u32,
    pub(super) abis: &'static [Abi],
}

/// A kind of kernel: the architectures whose calls can reach a filter that it runs.
pub struct Machine {
    pub(super) table: &'static Table,
    /// The first family's first architecture is the native one.
    pub(super) families: &'static [Family],
}

impl Machine {
    /// Whether calls of this architecture are filtered under a profile's list of architectures: the
    /// native one always is. Architectures of other machines never occur and name nothing here.
    pub(super) fn includes(&self, abi: &Abi, listed: &[Arch]) -> bool {
        let native = &self.families[0].abis[0];
        abi.arch == native.arch || listed.contains(&abi.arch)
    }

    /// The number that a call has in `seccomp_data.nr` on one of the machine's architectures.
    pub fn number(&self, arch: Arch, name: &str) -> Option<u32> {
        let abi = self
            .families
            .iter()
            .flat_map(|family| family.abis)
            .find(|abi| abi.arch == arch)?;
        let number = self.table.find(name)?.get(abi.column)?;
        Some(abi.base + number)
    }

    /// The names of all system calls that some architecture of the machine has, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.table.names()
    }
}

/// A 64-bit x86 kernel: x86_64, x32 and x86.
pub static X86_64: Machine = Machine {
    table: &tables::X86_64,
    families: &[
        Family {
            audit: AUDIT_ARCH_X86_64,
            abis: &[
                Abi {
                    arch: Arch::ScmpArchX86_64,
                    column: 0,
                    base: 0,
                    wide: true,
                    multiplexers: None,
                },
                // libseccomp compares the low halves only, and so do we.
                Abi {
                    arch: Arch::ScmpArchX32,
                    column: 1,
                    base: X32,
                    wide: false,
                    multiplexers: None,
                },
            ],
        },
        Family {
            audit: AUDIT_ARCH_I386,
            abis: &[Abi {
                arch: Arch::ScmpArchX86,
                column: 2,
                base: 0,
                wide: false,
                multiplexers: Some(Multiplexers {
                    socketcall: 102,
                    ipc: 117,
                }),
            }],
        },
    ],
};

/// A 64-bit Arm kernel: aarch64 and (EABI) arm.
pub static AARCH64: Machine = Machine {
    table: &tables::AARCH64,
    families: &[
        Family {
            audit: AUDIT_ARCH_AARCH64,
            abis: &[Abi {
                arch: Arch::ScmpArchAarch64,
                column: 0,
                base: 0,
                wide: true,
                multiplexers: None,
            }],
        },
        Family {
            audit: AUDIT_ARCH_ARM,
            abis: &[Abi {
                arch: Arch::ScmpArchArm,
                column: 1,
                base: 0,
                wide: false,
                multiplexers: None,
            }],
        },
    ],
};

/// The machine that this program runs on.
#[cfg(target_arch = "x86_64")]
pub static HOST: &Machine = &X86_64;
/// The machine that this program runs on.
#[cfg(target_arch = "aarch64")]
pub static HOST: &Machine = &AARCH64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("seccomp: there are system call tables for x86_64 and aarch64 only");

/// The value that socketcall(2) has for a socket call (`SYS_SOCKET` and so on, linux/net.h).
pub(super) fn socketcall_value(name: &str) -> Option<u32> {
    Some(match name {
        "socket" => 1,
        "bind" => 2,
        "connect" => 3,
        "listen" => 4,
        "accept" => 5,
        "getsockname" => 6,
        "getpeername" => 7,
        "socketpair" => 8,
        "send" => 9,
        "recv" => 10,
        "sendto" => 11,
        "recvfrom" => 12,
        "shutdown" => 13,
        "setsockopt" => 14,
        "getsockopt" => 15,
        "sendmsg" => 16,
        "recvmsg" => 17,
        "accept4" => 18,
        "recvmmsg" => 19,
        "sendmmsg" => 20,
        _ => return None,
    })
}

/// The value that ipc(2) has for a System V call (`SEMOP` and so on, linux/ipc.h).
pub(super) fn ipc_value(name: &str) -> Option<u32> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}
