//! OCI device rules to an eBPF program for `BPF_PROG_TYPE_CGROUP_DEVICE`. Pure: no system calls.
//!
//! Source: runtime-spec config-linux.md, Allowed Device list; linux/bpf.h, `bpf_cgroup_dev_ctx`. The
//! rules are ordered: for every kind of access (read, write, mknod) the last rule that matches the
//! device and names that access decides, and what no rule decides is denied. A request for several
//! kinds (open for reading and writing) needs all of them. Rules that later ones hide are dropped
//! before the program is written, and the same short list can be given to systemd.
//!
//! Loading and attaching the program is not here.

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

pub use crate::sys::bpf::Instruction;

/// What a device is opened for: a set of [`READ`], [`WRITE`] and [`MKNOD`].
pub type Access = u8;
/// `BPF_DEVCG_ACC_MKNOD`
pub const MKNOD: Access = 1;
/// `BPF_DEVCG_ACC_READ`
pub const READ: Access = 2;
/// `BPF_DEVCG_ACC_WRITE`
pub const WRITE: Access = 4;
const ALL: Access = MKNOD | READ | WRITE;

/// The two kinds of devices, with the kernel's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `BPF_DEVCG_DEV_BLOCK`
    Block = 1,
    /// `BPF_DEVCG_DEV_CHAR`
    Character = 2,
}

/// One device rule. `None` matches all kinds or all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Block or character devices.
    pub kind: Option<Kind>,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// The kinds of access that the rule decides; never empty.
    pub access: Access,
    /// Allow or deny.
    pub allow: bool,
}

impl Rule {
    fn new(wire: &LinuxDeviceCgroup) -> Result<Self> {
        let kind = match wire.typ().unwrap_or_default() {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(Kind::Block),
            // Unbuffered character devices are character devices (mknod(1)).
            LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Character),
            LinuxDeviceType::P => bail!("type p: a pipe is no device"),
        };
        Ok(Self {
            kind,
            major: number(wire.major()).context("major")?,
            minor: number(wire.minor()).context("minor")?,
            access: access(wire.access().as_deref().unwrap_or_default())?,
            allow: wire.allow(),
        })
    }

    /// Whether every device that the other rule matches is matched by this one.
    fn covers(&self, other: &Self) -> bool {
        fn wider<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || a == b
        }
        wider(self.kind, other.kind)
            && wider(self.major, other.major)
            && wider(self.minor, other.minor)
    }
}

fn number(wire: Option<i64>) -> Result<Option<u32>> {
    match wire {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{number} is no device number (-1 stands for all)"),
        },
    }
}

/// Without letters, all kinds of access: the specification's own example denies that way.
fn access(letters: &str) -> Result<Access> {
    if letters.is_empty() {
        return Ok(ALL);
    }
    letters.chars().try_fold(0, |access, letter| {
        Ok(access
            | match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => bail!("access {letters:?}: only r, w and m are known"),
            })
    })
}

/// The rules that decide something, in order: what later rules hide and what is denied anyway is
/// gone. The meaning is that of the whole list.
///
/// # Errors
/// A type, number or access that is none.
pub fn simplified(wire: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut kept: Vec<Rule> = Vec::with_capacity(wire.len());
    for (at, rule) in wire.iter().enumerate().rev() {
        let mut rule = Rule::new(rule).with_context(|| format!("devices[{at}]"))?;
        let hidden = kept
            .iter()
            .filter(|later| later.covers(&rule))
            .fold(0, |hidden, later| hidden | later.access);
        rule.access &= !hidden;
        if rule.access == 0 {
            continue;
        }
        // A directly following rule for the same devices with the same answer takes it in.
        match kept.last_mut() {
            Some(next) if next.allow == rule.allow && next.covers(&rule) && rule.covers(next) => {
                next.access |= rule.access;
            }
            _ => kept.push(rule),
        }
    }
    // What comes first only says what holds without it.
    while kept.last().is_some_and(|first| !first.allow) {
        kept.pop();
    }
    kept.reverse();
    Ok(kept)
}

/// The program for a list of rules. It returns 1 to allow a request and 0 to deny it.
///
/// # Errors
/// As [`simplified`].
pub fn program(wire: &[LinuxDeviceCgroup]) -> Result<Vec<Instruction>> {
    Ok(emit(&simplified(wire)?))
}

/// The rules that every container has after its own: mknod of all devices, and use of those that the
/// specification's default devices, terminals and the console are.
pub fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |kind, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(kind)
            .access(access)
            .build()
            .unwrap_or_default();
        rule.set_major(major);
        rule.set_minor(minor);
        rule
    };
    let character = LinuxDeviceType::C;
    let mut rules = vec![
        rule(character, None, None, "m"),
        rule(LinuxDeviceType::B, None, None, "m"),
    ];
    let devices = [
        (1, Some(3)), // null
        (1, Some(5)), // zero
        (1, Some(7)), // full
        (1, Some(8)), // random
        (1, Some(9)), // urandom
        (5, Some(0)), // tty
        (5, Some(1)), // console
        (5, Some(2)), // ptmx
        (136, None),  // pts
    ];
    rules.extend(
        devices
            .into_iter()
            .map(|(major, minor)| rule(character, Some(major), minor, "rwm")),
    );
    rules
}

const LOAD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const COPY: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const SET: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const IF_NOT_EQUAL: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const IF_ANY_BIT: u8 = 0x46; // BPF_JMP32 | BPF_JSET | BPF_K
const JUMP: u8 = 0x05; // BPF_JMP | BPF_JA
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The kinds of access that no rule has decided yet.
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate,
    }
}

fn emit(rules: &[Rule]) -> Vec<Instruction> {
    let load = |register: u8, offset| instruction(LOAD, CONTEXT << 4 | register, offset, 0);
    // access_type holds the access in its high half and the kind in its low half.
    let mut out = vec![
        load(KIND, 0),
        instruction(COPY, KIND << 4 | WANTED, 0, 0),
        instruction(AND, KIND, 0, 0xffff),
        instruction(SHIFT_RIGHT, WANTED, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    // The last rule that matches decides, so the last one is asked first.
    for rule in rules.iter().rev() {
        out.extend(block(rule));
    }
    // Nothing is left to decide: allowed. Something is: denied.
    out.extend([
        instruction(SET, RESULT, 0, 0),
        instruction(IF_NOT_EQUAL, WANTED, 1, 0),
        instruction(SET, RESULT, 0, 1),
        instruction(EXIT, 0, 0, 0),
    ]);
    out
}

/// One rule: if the device matches, decides the rule's kinds of access.
fn block(rule: &Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access);
    let decide = if rule.allow {
        vec![
            instruction(AND, WANTED, 0, !access),
            instruction(IF_NOT_EQUAL, WANTED, 2, 0),
            instruction(SET, RESULT, 0, 1),
            instruction(EXIT, 0, 0, 0),
        ]
    } else {
        vec![
            instruction(IF_ANY_BIT, WANTED, 1, access),
            // Over the two that deny.
            instruction(JUMP, 0, 2, 0),
            instruction(SET, RESULT, 0, 0),
            instruction(EXIT, 0, 0, 0),
        ]
    };
    let tests: Vec<(u8, u32)> = [
        (KIND, rule.kind.map(|kind| kind as u32)),
        (MAJOR, rule.major),
        (MINOR, rule.minor),
    ]
    .into_iter()
    .filter_map(|(register, value)| value.map(|value| (register, value)))
    .collect();
    let mut out = Vec::with_capacity(tests.len() + decide.len());
    for (at, (register, value)) in tests.iter().enumerate() {
        // At most two tests and four instructions are skipped.
        let distance = i16::try_from(tests.len() - at - 1 + decide.len()).unwrap_or(i16::MAX);
        out.push(instruction(
            IF_NOT_EQUAL,
            *register,
            distance,
            i32::from_ne_bytes(value.to_ne_bytes()),
        ));
    }
    out.extend(decide);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, letters: &str) -> LinuxDeviceCgroup {
        // "c 1:3 rw", "a", "b *:* m"
        let mut words = letters.split(' ');
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow);
        rule.set_typ(match words.next().unwrap() {
            "a" => Some(LinuxDeviceType::A),
            "b" => Some(LinuxDeviceType::B),
            "c" => Some(LinuxDeviceType::C),
            "-" => None,
            other => panic!("{other}"),
        });
        if let Some((major, minor)) = words.next().and_then(|word| word.split_once(':')) {
            rule.set_major(major.parse().ok());
            rule.set_minor(minor.parse().ok());
        }
        rule.set_access(words.next().map(str::to_owned));
        rule
    }

    fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let mut registers = [0u32; 6];
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut at = 0;
        while at < program.len() {
            // Every jump goes forward, so this ends.
            let it = program[at];
            let destination = usize::from(it.registers & 15);
            let source = usize::from(it.registers >> 4);
            let constant = u32::from_ne_bytes(it.immediate.to_ne_bytes());
            at += 1;
            let value = registers[destination];
            let mut jump = |holds: bool| {
                if holds {
                    at += usize::try_from(it.offset).unwrap();
                }
            };
            match it.code {
                LOAD => {
                    assert_eq!(source, 1);
                    registers[destination] = context[usize::try_from(it.offset).unwrap() / 4];
                }
                COPY => registers[destination] = registers[source],
                SET => registers[destination] = constant,
                AND => registers[destination] = value & constant,
                SHIFT_RIGHT => registers[destination] = value >> constant,
                IF_NOT_EQUAL => jump(value != constant),
                IF_ANY_BIT => jump(value & constant != 0),
                JUMP => jump(true),
                EXIT => return registers[0] == 1,
                code => panic!("{code:#x}"),
            }
        }
        panic!("no exit")
    }

    /// The definition: per kind of access, the last rule that matches.
    fn model(
        rules: &[LinuxDeviceCgroup],
        kind: Kind,
        major: u32,
        minor: u32,
        access: Access,
    ) -> bool {
        [READ, WRITE, MKNOD]
            .into_iter()
            .filter(|one| access & one != 0)
            .all(|one| {
                let letter = match one {
                    READ => 'r',
                    WRITE => 'w',
                    _ => 'm',
                };
                rules
                    .iter()
                    .rfind(|rule| {
                        let kinds = match rule.typ() {
                            None | Some(LinuxDeviceType::A) => true,
                            Some(LinuxDeviceType::B) => kind == Kind::Block,
                            _ => kind == Kind::Character,
                        };
                        let is = |wire: Option<i64>, number: u32| {
                            wire.is_none_or(|wire| wire == -1 || wire == i64::from(number))
                        };
                        let letters = rule.access().clone().unwrap_or_default();
                        kinds
                            && is(rule.major(), major)
                            && is(rule.minor(), minor)
                            && (letters.is_empty() || letters.contains(letter))
                    })
                    .is_some_and(|rule| rule.allow())
            })
    }

    fn next(state: &mut u64) -> usize {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(*state >> 33).unwrap()
    }

    #[test]
    fn programs_of_random_lists_decide_as_the_definition() {
        let mut state = 1;
        let numbers = [
            None,
            Some(-1),
            Some(0),
            Some(1),
            Some(5),
            Some(i64::from(u32::MAX)),
        ];
        let letters = ["", "r", "w", "m", "rw", "rm", "wm", "rwm", "rr"];
        let types = [
            None,
            Some(LinuxDeviceType::A),
            Some(LinuxDeviceType::B),
            Some(LinuxDeviceType::C),
            Some(LinuxDeviceType::U),
        ];
        for _ in 0..2000 {
            let rules: Vec<LinuxDeviceCgroup> = (0..next(&mut state) % 8)
                .map(|_| {
                    let mut rule = LinuxDeviceCgroup::default();
                    rule.set_allow(next(&mut state).is_multiple_of(2));
                    rule.set_typ(types[next(&mut state) % types.len()]);
                    rule.set_major(numbers[next(&mut state) % numbers.len()]);
                    rule.set_minor(numbers[next(&mut state) % numbers.len()]);
                    let access = letters[next(&mut state) % letters.len()];
                    rule.set_access(Some(access.to_owned()));
                    rule
                })
                .collect();
            let program = program(&rules).unwrap();
            for kind in [Kind::Block, Kind::Character] {
                for major in [0, 1, 5, 6, u32::MAX] {
                    for minor in [0, 1, 5, 6, u32::MAX] {
                        for access in 1..=ALL {
                            assert_eq!(
                                run(&program, kind, major, minor, access),
                                model(&rules, kind, major, minor, access),
                                "{kind:?} {major}:{minor} {access} {rules:#?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_allowed_without_rules() {
        let program = program(&[]).unwrap();
        assert!(!run(&program, Kind::Character, 1, 3, READ));
    }

    #[test]
    fn access_must_be_allowed_as_a_whole() {
        let program = program(&[rule(false, "a"), rule(true, "c 1:3 r")]).unwrap();
        assert!(run(&program, Kind::Character, 1, 3, READ));
        assert!(!run(&program, Kind::Character, 1, 3, READ | WRITE));
    }

    #[test]
    fn access_may_be_allowed_by_several_rules() {
        let program = program(&[rule(true, "c *:* m"), rule(true, "c 1:3 rw")]).unwrap();
        assert!(run(&program, Kind::Character, 1, 3, READ | WRITE | MKNOD));
        assert!(!run(&program, Kind::Character, 1, 4, READ | MKNOD));
    }

    #[test]
    fn later_rule_for_all_devices_hides_everything_before() {
        let rules = [rule(true, "c 1:3 rwm"), rule(false, "- *:* rwm")];
        assert_eq!(simplified(&rules).unwrap(), []);
        let rules = [rule(false, "c 1:3 rwm"), rule(true, "a")];
        let simple = simplified(&rules).unwrap();
        assert_eq!(simple.len(), 1);
        let program = emit(&simple);
        assert!(run(&program, Kind::Block, 8, 0, ALL));
    }

    #[test]
    fn hole_in_an_allowed_range_stays() {
        let program = program(&[rule(true, "b 8:* rw"), rule(false, "b 8:1 w")]).unwrap();
        assert!(run(&program, Kind::Block, 8, 2, READ | WRITE));
        assert!(run(&program, Kind::Block, 8, 1, READ));
        assert!(!run(&program, Kind::Block, 8, 1, READ | WRITE));
    }

    #[test]
    fn usual_list_becomes_short() {
        let mut rules = vec![rule(false, "a *:* rwm")];
        rules.extend(default_rules());
        rules.extend(default_rules());
        let simple = simplified(&rules).unwrap();
        assert_eq!(simple.len(), default_rules().len());
        let program = emit(&simple);
        assert!(run(&program, Kind::Character, 1, 3, READ | WRITE));
        assert!(run(&program, Kind::Character, 136, 77, READ | WRITE));
        assert!(run(&program, Kind::Block, 8, 0, MKNOD));
        assert!(!run(&program, Kind::Block, 8, 0, READ));
        assert!(!run(&program, Kind::Character, 10, 200, READ));
    }

    #[test]
    fn rules_that_name_no_device_are_refused() {
        let mut pipe = rule(true, "c 1:3 r");
        pipe.set_typ(Some(LinuxDeviceType::P));
        let text = |rule| format!("{:#}", program(&[rule]).unwrap_err());
        assert_eq!(text(pipe), "devices[0]: type p: a pipe is no device");
        let number = text(rule(true, "c -2:3 r"));
        assert!(number.contains("major: -2 is no device number"), "{number}");
        let letters = text(rule(true, "c 1:3 rx"));
        assert!(letters.contains("only r, w and m"), "{letters}");
    }

    #[test]
    fn instruction_is_as_large_as_the_kernels() {
        assert_eq!(size_of::<Instruction>(), 8);
    }
}
