//! What a profile says, read plainly: rule by rule, on the wire types, without any program.
//!
//! The second judge. libseccomp 2.5 has faults where rules for one call look at several arguments
//! (a comparison is reached with another argument in the accumulator); this says who is right.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use seedpod::seccomp::Machine;

use crate::interpreter::Call;

const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
const SOCKETCALL: &str = "socket bind connect listen accept getsockname getpeername socketpair send \
                          recv sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg \
                          accept4 recvmmsg sendmmsg";
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// A profile's rules, spread over the numbers that they speak of.
pub struct Model {
    default: u32,
    filtered: Vec<Arch>,
    /// Conditions that must all hold, for one number of one architecture.
    rules: Vec<Spread>,
    /// The largest number that the profile names, per architecture.
    largest: Vec<(Arch, u32)>,
}

struct Spread {
    arch: Arch,
    number: u32,
    action: u32,
    conditions: Vec<LinuxSeccompArg>,
    /// What the first argument must be on a multiplexing call.
    selector: Option<u64>,
}

impl Model {
    pub fn new(machine: &Machine, filtered: Vec<Arch>, profile: &LinuxSeccomp) -> Self {
        let default = profile.default_action();
        let lets_through = matches!(
            default,
            LinuxSeccompAction::ScmpActAllow
                | LinuxSeccompAction::ScmpActLog
                | LinuxSeccompAction::ScmpActTrace
                | LinuxSeccompAction::ScmpActNotify
        );
        let mut model = Self {
            default: default.as_u32(profile.default_errno_ret()),
            filtered: filtered.clone(),
            rules: Vec::new(),
            largest: Vec::new(),
        };
        for arch in filtered {
            let rules = || profile.syscalls().iter().flatten();
            let largest = rules()
                .flat_map(LinuxSyscall::names)
                .filter_map(|name| machine.number(arch, name))
                .filter(|number| *number & 0x000f_0000 == 0)
                .max();
            if !lets_through {
                model.largest.extend(largest.map(|largest| (arch, largest)));
            }
            for rule in rules() {
                for name in rule.names() {
                    if let Some(number) = machine.number(arch, name) {
                        model.add(arch, number, rule, None);
                    }
                    if let Some((number, value)) = multiplexed(arch, name) {
                        model.add(arch, number, rule, Some(value));
                    }
                }
            }
        }
        model
    }

    fn add(&mut self, arch: Arch, number: u32, rule: &LinuxSyscall, selector: Option<u64>) {
        let action = rule.action().as_u32(rule.errno_ret());
        if action == self.default {
            return;
        }
        let wide = is_wide(arch);
        let all = rule.args().as_deref().unwrap_or_default();
        let repeated = (0..6).any(|at| all.iter().filter(|one| one.index() == at).count() > 1);
        let sets: Vec<&[LinuxSeccompArg]> = if repeated {
            all.chunks(1).collect()
        } else {
            vec![all]
        };
        for set in sets {
            let conditions = set
                .iter()
                .filter(|one| selector.is_none() || one.index() != 0)
                .filter(|one| !looks_at_nothing(one, wide));
            self.rules.push(Spread {
                arch,
                number,
                action,
                conditions: conditions.copied().collect(),
                selector,
            });
        }
    }

    /// Whether some rule for this number has conditions.
    pub fn looks_at_arguments(&self, number: u32) -> bool {
        let conditional = |rule: &Spread| rule.selector.is_some() || !rule.conditions.is_empty();
        self.rules
            .iter()
            .any(|rule| rule.number == number && conditional(rule))
    }

    /// The actions that the profile gives a call: more than one where rules with different actions
    /// match, as the specification does not say which of them holds.
    pub fn verdicts(&self, call: &Call) -> Vec<u32> {
        let from = |arch: &&Arch| comes_from(**arch, call);
        let Some(arch) = self.filtered.iter().find(from).copied() else {
            // The number by which a tracer skips a call is not taken for x32's.
            let audited = |arch: &Arch| audit(*arch) == call.architecture;
            let skipped = call.number == u32::MAX && self.filtered.iter().any(audited);
            return vec![if skipped {
                self.default
            } else {
                libc::SECCOMP_RET_KILL_THREAD
            }];
        };
        let rules = || {
            self.rules
                .iter()
                .filter(|rule| rule.arch == arch && rule.number == call.number)
        };
        let always = |rule: &&Spread| rule.conditions.is_empty() && rule.selector.is_none();
        if let Some(rule) = rules().find(always) {
            return vec![rule.action];
        }
        let matching: Vec<u32> = rules()
            .filter(|rule| rule.holds(call))
            .map(|rule| rule.action)
            .collect();
        if !matching.is_empty() {
            return matching;
        }
        // A private call of 32-bit Arm is large and not new; one that is named has a rule here.
        let newer = rules().next().is_none()
            && self
                .largest
                .iter()
                .any(|(one, largest)| *one == arch && call.number > *largest);
        vec![if newer && call.number != u32::MAX {
            ENOSYS
        } else {
            self.default
        }]
    }
}

impl Spread {
    fn holds(&self, call: &Call) -> bool {
        let low = call.arguments[0] & 0xffff_ffff;
        self.selector.is_none_or(|value| value == low)
            && self
                .conditions
                .iter()
                .all(|one| holds(one, is_wide(self.arch), call.arguments[one.index()]))
    }
}

fn is_wide(arch: Arch) -> bool {
    matches!(arch, Arch::ScmpArchX86_64 | Arch::ScmpArchAarch64)
}

fn multiplexed(arch: Arch, name: &str) -> Option<(u32, u64)> {
    if arch != Arch::ScmpArchX86 {
        return None;
    }
    let socket = SOCKETCALL.split(' ').zip(1..).find(|(one, _)| *one == name);
    let ipc = IPC.iter().find(|(one, _)| *one == name);
    socket
        .map(|(_, value)| (102, value))
        .or(ipc.map(|(_, value)| (117, *value)))
}

fn audit(arch: Arch) -> u32 {
    match arch {
        Arch::ScmpArchX32 => Arch::ScmpArchX86_64 as u32,
        other => other as u32,
    }
}

fn comes_from(arch: Arch, call: &Call) -> bool {
    let x32 = call.number >= 0x4000_0000;
    audit(arch) == call.architecture
        && match arch {
            Arch::ScmpArchX86_64 => !x32,
            Arch::ScmpArchX32 => x32,
            _ => true,
        }
}

fn looks_at_nothing(one: &LinuxSeccompArg, wide: bool) -> bool {
    one.op() == LinuxSeccompOperator::ScmpCmpMaskedEq && cut(one.value(), wide) == 0
}

fn holds(one: &LinuxSeccompArg, wide: bool, argument: u64) -> bool {
    let (argument, value) = (cut(argument, wide), cut(one.value(), wide));
    match one.op() {
        LinuxSeccompOperator::ScmpCmpEq => argument == value,
        LinuxSeccompOperator::ScmpCmpNe => argument != value,
        LinuxSeccompOperator::ScmpCmpLt => argument < value,
        LinuxSeccompOperator::ScmpCmpLe => argument <= value,
        LinuxSeccompOperator::ScmpCmpGe => argument >= value,
        LinuxSeccompOperator::ScmpCmpGt => argument > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            argument & value == one.value_two().unwrap_or(0) & value
        }
    }
}

fn cut(value: u64, wide: bool) -> u64 {
    if wide { value } else { value & 0xffff_ffff }
}
