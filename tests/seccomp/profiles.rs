//! Profiles from a seed: the same ones on every run and every machine.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// splitmix64: small, and good enough to choose rules.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const ACTIONS: [LinuxSeccompAction; 9] = [
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActTrap,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActNotify,
    LinuxSeccompAction::ScmpActAllow,
];

const OPERATORS: [LinuxSeccompOperator; 7] = [
    LinuxSeccompOperator::ScmpCmpEq,
    LinuxSeccompOperator::ScmpCmpNe,
    LinuxSeccompOperator::ScmpCmpLt,
    LinuxSeccompOperator::ScmpCmpLe,
    LinuxSeccompOperator::ScmpCmpGe,
    LinuxSeccompOperator::ScmpCmpGt,
    LinuxSeccompOperator::ScmpCmpMaskedEq,
];

/// Values around which comparisons of halves go wrong.
pub const VALUES: [u64; 14] = [
    0,
    1,
    2,
    5,
    7,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

/// Which profiles are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No call has more than one rule with conditions.
    Single,
    /// All rules with conditions have one action, so it does not matter which of them matches.
    OneAction,
    /// Rules with different actions and one bound each, all on one argument: they overlap, and the
    /// order in which they are tried shows.
    OneArgument,
    /// Anything.
    AnyAction,
}

/// A profile with calls out of `names` for architectures out of `architectures`.
pub fn generate(
    random: &mut Random,
    kind: Kind,
    names: &[&str],
    architectures: &[Arch],
) -> LinuxSeccomp {
    let default = random.pick(&ACTIONS);
    let default_errno = errno(random, default);
    let conditional = action(random);
    // Few different calls, so that rules meet.
    let pool: Vec<&str> = (0..1 + random.below(12))
        .map(|_| random.pick(names))
        .collect();
    let rules = match kind {
        Kind::OneArgument => bounds(random, pool[0]),
        _ => (0..random.below(16))
            .map(|_| rule(random, kind, &pool, conditional))
            .collect(),
    };
    let rules = if kind == Kind::Single {
        without_second(rules)
    } else {
        rules
    };
    let listed: Vec<Arch> = architectures
        .iter()
        .filter(|_| random.chance(60))
        .copied()
        .collect();
    let mut profile = LinuxSeccompBuilder::default()
        .default_action(default)
        .architectures(listed)
        .syscalls(rules)
        .build()
        .unwrap();
    profile.set_default_errno_ret(default_errno);
    profile
}

fn action(random: &mut Random) -> (LinuxSeccompAction, Option<u32>) {
    let action = random.pick(&ACTIONS);
    (action, errno(random, action))
}

fn errno(random: &mut Random, action: LinuxSeccompAction) -> Option<u32> {
    let takes = matches!(
        action,
        LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace
    );
    (takes && random.chance(50)).then(|| u32::try_from(random.below(200)).unwrap())
}

fn rule(
    random: &mut Random,
    kind: Kind,
    pool: &[&str],
    conditional: (LinuxSeccompAction, Option<u32>),
) -> LinuxSyscall {
    let arguments = if random.chance(70) {
        arguments(random)
    } else {
        Vec::new()
    };
    let (action, errno) = if kind == Kind::OneAction && !arguments.is_empty() {
        conditional
    } else {
        action(random)
    };
    let names: Vec<String> = (0..1 + random.below(3))
        .map(|_| random.pick(pool).to_owned())
        .collect();
    let mut rule = LinuxSyscallBuilder::default()
        .names(names)
        .action(action)
        .args(arguments)
        .build()
        .unwrap();
    rule.set_errno_ret(errno);
    rule
}

/// Takes a call's name out of all rules with conditions but the first, and out of rules that would
/// be split into several.
fn without_second(rules: Vec<LinuxSyscall>) -> Vec<LinuxSyscall> {
    let mut seen = std::collections::HashSet::new();
    let mut kept = Vec::new();
    for mut rule in rules {
        let all = rule.args().clone().unwrap_or_default();
        let repeats = (0..6).any(|at| all.iter().filter(|one| one.index() == at).count() > 1);
        if !all.is_empty() {
            let mut names = rule.names().clone();
            names.retain(|name| !repeats && seen.insert(name.clone()));
            rule.set_names(names);
        }
        if !rule.names().is_empty() {
            kept.push(rule);
        }
    }
    kept
}

fn bounds(random: &mut Random, name: &str) -> Vec<LinuxSyscall> {
    let index = random.below(6);
    let mut values: Vec<u64> = VALUES[..9].to_vec();
    (0..1 + random.below(8))
        .map(|_| {
            let (action, errno) = action(random);
            let value = values.swap_remove(random.below(values.len()));
            let argument = LinuxSeccompArgBuilder::default()
                .index(index)
                .value(value)
                .op(random.pick(&OPERATORS[..6]))
                .build()
                .unwrap();
            let mut rule = LinuxSyscallBuilder::default()
                .names([name.to_owned()])
                .action(action)
                .args([argument])
                .build()
                .unwrap();
            rule.set_errno_ret(errno);
            rule
        })
        .collect()
}

fn arguments(random: &mut Random) -> Vec<LinuxSeccompArg> {
    let count = 1 + random.below(3) * random.below(2);
    // Mostly on different arguments: a repeated one splits the rule.
    let first = random.below(6);
    (0..count)
        .map(|at| {
            let index = if random.chance(90) {
                (first + at) % 6
            } else {
                random.below(6)
            };
            let operator = random.pick(&OPERATORS);
            // Only the masked comparison reads the second value.
            LinuxSeccompArgBuilder::default()
                .index(index)
                .value(value(random))
                .value_two(value(random))
                .op(operator)
                .build()
                .unwrap()
        })
        .collect()
}

fn value(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.next(),
        1 => random.next() & 0xffff_ffff,
        2 => random.next() % 16,
        _ => random.pick(&VALUES),
    }
}
