//! The verdict for every system call number of a family of architectures, as ranges of numbers.
//!
//! What libseccomp decides while it grows its tree is decided here once, on sorted lists: which rule
//! wins, what a rule means on x86's multiplexed calls, what happens to numbers that the profile does
//! not know. The emitter turns ranges into instructions and decides nothing.

use std::cmp::Reverse;

use anyhow::{Result, bail};
use oci_spec::runtime::Arch;

use super::machine::{Abi, Family, Machine, ipc_value, socketcall_value};
use super::rules::{Condition, Operator, Rule, action_name};
use super::tables::{ARM_PRIVATE, Numbers};

/// A tracer sets this number to skip a call (seccomp(2)); it always has the default action.
const SKIPPED: u32 = u32::MAX;

/// What a filter does with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Returns a `SECCOMP_RET_*` value.
    Return(u32),
    /// Looks at arguments: an index into [`Verdicts::checks`].
    Check(usize),
}

/// Numbers from `start` up to the next range's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) leaf: Leaf,
}

/// Conditions that must all hold for an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// Branches in the order in which they are tried; none matches: the default action.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) branches: Vec<Branch>,
    pub(super) wide: bool,
}

/// The verdicts of one family.
pub(super) struct Verdicts {
    pub(super) ranges: Vec<Range>,
    pub(super) checks: Vec<Check>,
}

/// The actions that no rule gives.
#[derive(Clone, Copy)]
pub(super) struct Fallback {
    /// The profile's default action.
    pub(super) default: u32,
    /// For numbers above all those that the profile names.
    pub(super) newer: u32,
    /// For architectures that are not filtered.
    pub(super) foreign: u32,
}

/// One name in one rule.
struct Mention<'a> {
    name: &'a str,
    rule: &'a Rule<'a>,
    numbers: Option<Numbers>,
}

/// One call number that a rule speaks of.
struct Use<'a> {
    number: u32,
    /// Place in the profile: rules in order, names within.
    order: usize,
    rule: &'a Rule<'a>,
    /// The first argument's value, where the number is a multiplexing call's.
    multiplexed: Option<u32>,
}

/// The rules of a profile, with their names resolved for a machine.
pub(super) struct Resolver<'a> {
    machine: &'a Machine,
    listed: &'a [Arch],
    fallback: Fallback,
    mentions: Vec<Mention<'a>>,
    /// What the profile asks for and does not get.
    pub(super) warnings: Vec<String>,
}

impl<'a> Resolver<'a> {
    /// Looks up every name once, for all architectures of the machine.
    pub(super) fn new(
        machine: &'a Machine,
        listed: &'a [Arch],
        rules: &'a [Rule<'a>],
        fallback: Fallback,
    ) -> Self {
        let mentions = rules
            .iter()
            .flat_map(|rule| rule.names.iter().map(move |name| (rule, name)))
            .map(|(rule, name)| Mention {
                name,
                rule,
                numbers: machine.table.find(name),
            })
            .collect();
        Self {
            machine,
            listed,
            fallback,
            mentions,
            warnings: Vec::new(),
        }
    }

    /// The names that no architecture of the machine has.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &'a str> {
        let multiplexed = self
            .machine
            .families
            .iter()
            .flat_map(|family| family.abis)
            .any(|abi| abi.multiplexers.is_some());
        self.mentions
            .iter()
            .filter(|mention| mention.numbers.is_none())
            .map(|mention| mention.name)
            .filter(move |name| {
                !multiplexed || (socketcall_value(name).is_none() && ipc_value(name).is_none())
            })
    }

    /// The verdicts of one family of architectures; nothing if none of them is filtered.
    pub(super) fn family(&mut self, family: &Family) -> Result<Option<Verdicts>> {
        let machine = self.machine;
        let listed = self.listed;
        if !family.abis.iter().any(|abi| machine.includes(abi, listed)) {
            return Ok(None);
        }
        let mut verdicts = Verdicts {
            ranges: Vec::with_capacity(128),
            checks: Vec::new(),
        };
        for abi in family.abis {
            if machine.includes(abi, listed) {
                self.abi(abi, &mut verdicts)?;
            } else {
                verdicts.push(abi.base, Leaf::Return(self.fallback.foreign));
            }
        }
        verdicts.push(SKIPPED, Leaf::Return(self.fallback.default));
        Ok(Some(verdicts))
    }

    fn abi(&mut self, abi: &Abi, verdicts: &mut Verdicts) -> Result<()> {
        let (mut uses, largest) = self.uses(abi);
        uses.sort_unstable_by_key(|one| (one.number, one.order));
        // A profile that names no call of this architecture does not tell what is newer than it.
        let unnamed = Unnamed {
            edge: largest.map_or(SKIPPED, |largest| largest + 1),
            fallback: self.fallback,
        };
        let mut next = abi.base;
        for group in uses.chunk_by(|a, b| a.number == b.number) {
            let number = group[0].number;
            unnamed.fill(next, number, verdicts);
            let leaf = self.decide(abi, group, verdicts)?;
            verdicts.push(number, leaf);
            next = number + 1;
        }
        unnamed.fill(next, SKIPPED, verdicts);
        Ok(())
    }

    /// The numbers that rules speak of, and the largest that the profile names at all.
    fn uses(&self, abi: &Abi) -> (Vec<Use<'a>>, Option<u32>) {
        let mut uses = Vec::with_capacity(self.mentions.len());
        let mut largest = None;
        for (order, mention) in self.mentions.iter().enumerate() {
            let rule = mention.rule;
            let number = mention.numbers.and_then(|all| all.get(abi.column));
            if let Some(number) = number {
                if number < ARM_PRIVATE {
                    largest = largest.max(Some(abi.base + number));
                }
                if !rule.redundant {
                    uses.push(Use {
                        number: abi.base + number,
                        order,
                        rule,
                        multiplexed: None,
                    });
                }
            }
            if let Some(multiplexers) = abi.multiplexers.as_ref().filter(|_| !rule.redundant) {
                let by = |number, value: Option<u32>| value.map(|value| (number, value));
                let target = by(multiplexers.socketcall, socketcall_value(mention.name))
                    .or_else(|| by(multiplexers.ipc, ipc_value(mention.name)));
                uses.extend(target.map(|(number, value)| Use {
                    number,
                    order,
                    rule,
                    multiplexed: Some(value),
                }));
            }
        }
        (uses, largest)
    }

    /// Which rule wins for one number. The first rule without conditions decides alone, wherever it
    /// stands; else conditions are tried in libseccomp's order.
    fn decide(&mut self, abi: &Abi, uses: &[Use<'_>], verdicts: &mut Verdicts) -> Result<Leaf> {
        let mut branches = Vec::new();
        for one in uses {
            for alternative in &one.rule.alternatives {
                let conditions = conditions(abi, alternative, one.multiplexed);
                if conditions.is_empty() {
                    return Ok(Leaf::Return(one.rule.action));
                }
                branches.push((
                    one.order,
                    Branch {
                        conditions,
                        action: one.rule.action,
                    },
                ));
            }
        }
        branches.sort_by_cached_key(|(_, branch)| precedence(branch));
        let branches = self.without_shadowed(branches)?;
        Ok(verdicts.check(Check {
            branches,
            wide: abi.wide,
        }))
    }

    /// Drops branches that an earlier one covers. Where the two differ in their action, libseccomp
    /// (and so runc) refuses the profile unless the covering rule also came first in the profile;
    /// choosing in silence would be choosing someone's security.
    fn without_shadowed(&mut self, branches: Vec<(usize, Branch)>) -> Result<Vec<Branch>> {
        let mut kept: Vec<(usize, Branch)> = Vec::with_capacity(branches.len());
        for (order, branch) in branches {
            let covering = kept
                .iter()
                .find(|(_, other)| branch.conditions.starts_with(&other.conditions));
            let Some((first, other)) = covering else {
                kept.push((order, branch));
                continue;
            };
            if other.action == branch.action {
                continue;
            }
            let text = format!(
                "{}: {} for some arguments, and {} for the same or more of them",
                self.mentions[order].name,
                action_name(branch.action),
                action_name(other.action)
            );
            if other.conditions.len() == branch.conditions.len() || order < *first {
                bail!("{text}: the rules contradict each other");
            }
            self.warnings.push(format!("{text}: the latter holds"));
        }
        Ok(kept.into_iter().map(|(_, branch)| branch).collect())
    }
}

/// What numbers have that no rule speaks of.
struct Unnamed {
    /// The first number above all that the profile names.
    edge: u32,
    fallback: Fallback,
}

impl Unnamed {
    fn fill(&self, from: u32, to: u32, verdicts: &mut Verdicts) {
        if from < to.min(self.edge) {
            verdicts.push(from, Leaf::Return(self.fallback.default));
        }
        if from.max(self.edge) < to {
            verdicts.push(from.max(self.edge), Leaf::Return(self.fallback.newer));
        }
    }
}

impl Verdicts {
    fn push(&mut self, start: u32, leaf: Leaf) {
        if self.ranges.last().is_none_or(|last| last.leaf != leaf) {
            self.ranges.push(Range { start, leaf });
        }
    }

    fn check(&mut self, check: Check) -> Leaf {
        let known = self.checks.iter().position(|other| *other == check);
        Leaf::Check(known.unwrap_or_else(|| {
            self.checks.push(check);
            self.checks.len() - 1
        }))
    }
}

/// A rule's conditions as they are on an architecture. On a multiplexing call the first argument
/// names the call, so a condition on the call's own first argument is lost there; the others stay,
/// as in libseccomp, although they then look at the multiplexing call's arguments.
fn conditions(abi: &Abi, all: &[Condition], multiplexed: Option<u32>) -> Vec<Condition> {
    let selector = multiplexed.map(|value| Condition {
        argument: 0,
        operator: Operator::Equal,
        mask: u64::MAX,
        value: u64::from(value),
    });
    let own = all
        .iter()
        .filter(|condition| multiplexed.is_none() || condition.argument != 0);
    selector
        .iter()
        .chain(own)
        .map(|condition| condition.narrowed(abi.wide))
        .filter(|condition| !condition.is_empty())
        .collect()
}

/// The order in which libseccomp walks its tree: later arguments first, equality before less before
/// greater, then the narrower comparison first. A rule comes before those that only add conditions.
fn precedence(branch: &Branch) -> Vec<(Reverse<u8>, u8, u64)> {
    let key = |condition: &Condition| {
        let (class, distance) = match condition.operator {
            Operator::Equal | Operator::NotEqual => (0, u64::MAX - condition.value),
            Operator::Less | Operator::LessOrEqual => (1, condition.value),
            Operator::GreaterOrEqual | Operator::Greater => (2, u64::MAX - condition.value),
        };
        (Reverse(condition.argument), class, distance)
    };
    branch.conditions.iter().map(key).collect()
}
