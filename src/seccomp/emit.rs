//! Ranges of verdicts into one classic BPF program.
//!
//! The program is written from its end to its start: a jump's targets are then always known, and
//! one that is too far for the eight bits of a conditional jump gets a copy of the return, or an
//! unconditional jump, right behind it.
//!
//! Numbers are found in a search tree over ranges, split by weight. When a filter is loaded the
//! kernel runs it for every number to see which calls are always allowed (seccomp(2), "bitmap
//! cache"), so the weight of a range is how many of those numbers it holds, and what is paid for is
//! the length of the paths, not of the program.

use seccompiler::sock_filter;

use super::rules::{Condition, Operator};
use super::verdicts::{Check, Leaf, Range, Verdicts};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_NOT_LESS: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// `offsetof(struct seccomp_data, nr)`, and so on.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How far a conditional jump is let go: 255, less the two instructions that may come between.
const REACH: usize = 253;
/// Numbers below this are worth a short path: no architecture has that many calls, and the kernel
/// tries each of them when the filter is loaded.
const TRIED: u32 = 480;

/// An instruction, counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Label(usize);

/// A program that grows towards its start.
#[derive(Default)]
struct Reversed {
    instructions: Vec<sock_filter>,
    /// The nearest return of each value.
    returns: Vec<(u32, Label)>,
}

/// The program for all families; the first is the native one and gets the shortest way.
pub(super) fn program(
    families: &[(u32, Verdicts)],
    default: u32,
    foreign: u32,
) -> Vec<sock_filter> {
    let mut out = Reversed {
        instructions: Vec::with_capacity(1024),
        returns: Vec::with_capacity(8),
    };
    let mut entries = Vec::with_capacity(families.len());
    for (audit, verdicts) in families.iter().rev() {
        let mut tree = Tree {
            checks: vec![None; verdicts.checks.len()],
            verdicts,
            default,
            out: &mut out,
        };
        let root = tree.node(&verdicts.ranges, u32::MAX);
        out.goto(root);
        entries.push((*audit, out.load(NUMBER)));
    }
    let mut otherwise = out.give(foreign);
    for (audit, entry) in entries {
        otherwise = out.branch(IF_EQUAL, audit, entry, otherwise);
    }
    out.goto(otherwise);
    out.load(ARCHITECTURE);
    out.instructions.reverse();
    out.instructions
}

impl Reversed {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.instructions.push(sock_filter { code, jt, jf, k });
        Label(self.instructions.len() - 1)
    }

    /// Instructions that the next one to be written would skip to reach the target.
    fn distance(&self, target: Label) -> usize {
        self.instructions.len() - target.0 - 1
    }

    /// Returns a value.
    fn give(&mut self, value: u32) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == value);
        if let Some(at) = known.filter(|at| self.distance(self.returns[*at].1) <= REACH) {
            return self.returns[at].1;
        }
        let label = self.push(RETURN, 0, 0, value);
        match known {
            Some(at) => self.returns[at].1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    /// The target itself, or something near that ends up there.
    fn near(&mut self, target: Label) -> Label {
        if self.distance(target) <= REACH {
            return target;
        }
        let instruction = &self.instructions[target.0];
        if instruction.code == RETURN {
            let value = instruction.k;
            return self.give(value);
        }
        self.jump(target)
    }

    fn jump(&mut self, target: Label) -> Label {
        // The kernel's limit of 4096 instructions is checked at the end, far below 2^32.
        let distance = u32::try_from(self.distance(target)).unwrap_or(u32::MAX);
        self.push(JUMP, 0, 0, distance)
    }

    /// Makes the target what follows the next instruction to be written.
    fn goto(&mut self, target: Label) {
        if self.distance(target) != 0 {
            let instruction = &self.instructions[target.0];
            if instruction.code == RETURN {
                let value = instruction.k;
                self.push(RETURN, 0, 0, value);
            } else {
                self.jump(target);
            }
        }
    }

    /// Loads a word of `struct seccomp_data` and goes on with what was written last.
    fn load(&mut self, offset: u32) -> Label {
        self.push(LOAD, 0, 0, offset)
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        let skip = |distance| u8::try_from(distance).unwrap_or(u8::MAX);
        let (jt, jf) = (skip(self.distance(yes)), skip(self.distance(no)));
        self.push(code, jt, jf, k)
    }

    /// Tests one condition.
    fn condition(&mut self, it: &Condition, wide: bool, yes: Label, no: Label) -> Label {
        let (yes, no, code) = match it.operator {
            Operator::Equal => return self.equal(it, wide, yes, no),
            Operator::NotEqual => return self.equal(it, wide, no, yes),
            Operator::Greater => (yes, no, IF_GREATER),
            Operator::GreaterOrEqual => (yes, no, IF_NOT_LESS),
            Operator::LessOrEqual => (no, yes, IF_GREATER),
            Operator::Less => (no, yes, IF_NOT_LESS),
        };
        let [low, high] = halves(it.value);
        let mut at = self.branch(code, low, yes, no);
        at = self.load_argument(it.argument, 0, at);
        if wide {
            at = self.branch(IF_EQUAL, high, at, no);
            at = self.branch(IF_GREATER, high, yes, at);
            at = self.load_argument(it.argument, 1, at);
        }
        at
    }

    fn equal(&mut self, it: &Condition, wide: bool, yes: Label, no: Label) -> Label {
        let values = halves(it.value);
        let masks = halves(it.mask);
        let mut at = yes;
        for half in (0..if wide { 2 } else { 1 }).filter(|half| masks[*half] != 0) {
            at = self.branch(IF_EQUAL, values[half], at, no);
            if masks[half] != u32::MAX {
                at = self.push(AND, 0, 0, masks[half]);
            }
            at = self.load_argument(it.argument, half, at);
        }
        at
    }

    fn load_argument(&mut self, argument: u8, half: usize, next: Label) -> Label {
        self.goto(next);
        let high = if half == 0 { 0 } else { 4 };
        self.load(ARGUMENTS + u32::from(argument) * 8 + high)
    }
}

/// The low and the high half of a 64-bit value, as they lie in memory.
fn halves(value: u64) -> [u32; 2] {
    let bytes = value.to_le_bytes();
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4)]
}

/// The search tree of one family.
struct Tree<'a> {
    out: &'a mut Reversed,
    verdicts: &'a Verdicts,
    /// Where each check was written.
    checks: Vec<Option<Label>>,
    default: u32,
}

impl Tree<'_> {
    /// Finds the range of the number in the accumulator, which is below `end`.
    fn node(&mut self, ranges: &[Range], end: u32) -> Label {
        match ranges {
            [only] => self.leaf(only.leaf),
            [before, one, after] if before.leaf == after.leaf && after.start - one.start == 1 => {
                let no = self.leaf(before.leaf);
                let yes = self.leaf(one.leaf);
                self.out.branch(IF_EQUAL, one.start, yes, no)
            }
            _ => {
                let (low, high) = ranges.split_at(middle(ranges, end));
                let start = high[0].start;
                let high = self.node(high, end);
                let low = self.node(low, start);
                self.out.branch(IF_NOT_LESS, start, high, low)
            }
        }
    }

    fn leaf(&mut self, leaf: Leaf) -> Label {
        match leaf {
            Leaf::Return(value) => self.out.give(value),
            Leaf::Check(index) => {
                if let Some(label) = self.checks[index] {
                    return label;
                }
                let label = self.check(&self.verdicts.checks[index]);
                self.checks[index] = Some(label);
                label
            }
        }
    }

    fn check(&mut self, check: &Check) -> Label {
        let mut otherwise = self.out.give(self.default);
        for branch in check.branches.iter().rev() {
            let mut at = self.out.give(branch.action);
            for condition in branch.conditions.iter().rev() {
                at = self.out.condition(condition, check.wide, at, otherwise);
            }
            otherwise = at;
        }
        otherwise
    }
}

/// Where to split ranges so that both sides hold about as many numbers that the kernel tries.
fn middle(ranges: &[Range], end: u32) -> usize {
    let weigh = |start: u32, end: u32| u64::from(end.min(TRIED).saturating_sub(start));
    let first = ranges[0].start;
    let total = weigh(first, end);
    if total == 0 {
        return ranges.len() / 2;
    }
    let imbalance = |at: &usize| {
        let left = weigh(first, ranges[*at].start);
        (left * 2).abs_diff(total)
    };
    (1..ranges.len()).min_by_key(imbalance).unwrap_or(1)
}
