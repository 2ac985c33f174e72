//! Our filters against libseccomp's: both programs are run over system call numbers and arguments,
//! and must agree on every verdict, but for the ENOSYS that we (as runc) add.
//!
//! Needs libseccomp.so.2, and no rights.

// clippy.toml allows these in test functions, and does not see that all of this file is a test.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../src/seccomp/interpreter.rs"]
mod interpreter;
mod libseccomp;
mod model;
mod profiles;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Instant;

use interpreter::{Call, run};
use libseccomp::{Library, action};
use model::Model;
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction};
use profiles::{Kind, Random, VALUES};
use seedpod::seccomp::{AARCH64, Machine, X86_64, compile_for, sock_filter};

/// How many sets of arguments a call with conditions is tried with.
const ARGUMENT_SETS: usize = 24;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
const DEFAULT_PROFILE: &str = include_str!("../../vendor-configs/seccomp/default.json");

/// A machine, its architectures (the native one first) and the values of `seccomp_data.arch`.
struct Target {
    machine: &'static Machine,
    architectures: &'static [Arch],
    audits: &'static [u32],
}

const TARGETS: [Target; 2] = [
    Target {
        machine: &X86_64,
        architectures: &[Arch::ScmpArchX86_64, Arch::ScmpArchX32, Arch::ScmpArchX86],
        audits: &[0xc000_003e, 0x4000_0003, 0xc000_00b7, 0],
    },
    Target {
        machine: &AARCH64,
        architectures: &[Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        audits: &[0xc000_00b7, 0x4000_0028, 0xc000_003e, u32::MAX],
    },
];

impl Target {
    /// The architectures that a profile gets here.
    fn filtered(&self, profile: &LinuxSeccomp) -> Vec<Arch> {
        let listed = profile.architectures().clone().unwrap_or_default();
        self.architectures
            .iter()
            .enumerate()
            .filter(|(at, arch)| *at == 0 || listed.contains(arch))
            .map(|(_, arch)| *arch)
            .collect()
    }

    /// Names that libseccomp knows too, by the same numbers.
    fn common_names(&self, library: &Library) -> Vec<&'static str> {
        self.machine
            .names()
            .filter(|name| {
                self.architectures
                    .iter()
                    .all(|arch| self.machine.number(*arch, name) == library.number(*arch, name))
            })
            .collect()
    }
}

/// `seccomp_data.arch` of an architecture, and the span of its numbers.
fn span(arch: Arch) -> (u32, u32, u32) {
    match arch {
        Arch::ScmpArchX86_64 => (0xc000_003e, 0, 0x3fff_ffff),
        Arch::ScmpArchX32 => (0xc000_003e, 0x4000_0000, 0xffff_fffe),
        other => (other as u32, 0, 0xffff_fffe),
    }
}

/// What must come out: libseccomp's verdict, or ENOSYS above the numbers that the profile names.
struct Judge {
    program: Vec<sock_filter>,
    /// `seccomp_data.arch`, first and last number that is too new.
    newer: Vec<(u32, u32, u32)>,
    /// The private calls of 32-bit Arm that the profile names: large numbers that are not new.
    named: Vec<u32>,
}

impl Judge {
    fn new(
        library: &Library,
        target: &Target,
        profile: &LinuxSeccomp,
    ) -> Result<Self, libc::c_int> {
        let filtered = target.filtered(profile);
        let program = library.compile(profile, &filtered)?;
        let mut newer = Vec::new();
        let lets_through = matches!(
            profile.default_action(),
            LinuxSeccompAction::ScmpActAllow
                | LinuxSeccompAction::ScmpActLog
                | LinuxSeccompAction::ScmpActTrace
                | LinuxSeccompAction::ScmpActNotify
        );
        for arch in filtered.iter().filter(|_| !lets_through) {
            let (audit, first, last) = span(*arch);
            let largest = profile
                .syscalls()
                .iter()
                .flatten()
                .flat_map(|rule| rule.names())
                .filter_map(|name| target.machine.number(*arch, name))
                .filter(|number| number & 0x000f_0000 == 0)
                .max();
            newer.extend(largest.map(|largest| (audit, first.max(largest + 1), last)));
        }
        let named = profile
            .syscalls()
            .iter()
            .flatten()
            .flat_map(|rule| rule.names())
            .filter_map(|name| target.machine.number(Arch::ScmpArchArm, name))
            .filter(|number| number & 0x000f_0000 != 0)
            .collect();
        Ok(Self {
            program,
            newer,
            named,
        })
    }

    fn verdict(&self, call: &Call) -> u32 {
        let (verdict, _) = run(&self.program, call).unwrap();
        let too_new = self.newer.iter().any(|(audit, first, last)| {
            *audit == call.architecture && (*first..=*last).contains(&call.number)
        });
        let private =
            call.architecture == span(Arch::ScmpArchArm).0 && self.named.contains(&call.number);
        if too_new && !private { ENOSYS } else { verdict }
    }
}

/// The numbers of the calls that a profile names, their neighbours, and the ends of all spans.
fn edges(target: &Target, profile: &LinuxSeccomp) -> Vec<u32> {
    let mut numbers = BTreeSet::from([
        0,
        0x3fff_ffff,
        0x4000_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
    ]);
    let named = profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|rule| rule.names());
    for name in named {
        for arch in target.architectures {
            if let Some(number) = target.machine.number(*arch, name) {
                numbers.extend([number.saturating_sub(1), number, number + 1]);
            }
        }
    }
    // socketcall(2) and ipc(2)
    numbers.extend([102, 117]);
    numbers.into_iter().collect()
}

fn all_numbers() -> impl Iterator<Item = u32> {
    (0..=620)
        .chain(0x000f_0000..=0x000f_0008)
        .chain(0x4000_0000..=0x4000_026c)
        .chain([
            0x3fff_ffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_fffe,
            0xffff_ffff,
        ])
}

/// Arguments on both sides of every condition of a profile.
fn arguments(random: &mut Random, profile: &LinuxSeccomp) -> Vec<[u64; 6]> {
    let mut values: Vec<u64> = profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|rule| rule.args().iter().flatten())
        .flat_map(|one| [one.value(), one.value_two().unwrap_or(0)])
        .flat_map(|value| {
            [
                value,
                value.wrapping_add(1),
                value.wrapping_sub(1),
                value << 32,
            ]
        })
        .collect();
    values.extend(VALUES);
    values.extend(1..=24);
    (0..ARGUMENT_SETS)
        .map(|_| std::array::from_fn(|_| random.pick(&values)))
        .collect()
}

/// The first call on which ours differs from the judge's.
fn difference(
    ours: &[sock_filter],
    judge: &Judge,
    audits: &[u32],
    numbers: impl Iterator<Item = u32>,
    arguments: &[[u64; 6]],
) -> Option<String> {
    for number in numbers {
        for architecture in audits {
            for arguments in arguments {
                let call = Call {
                    number,
                    architecture: *architecture,
                    arguments: *arguments,
                };
                let (verdict, _) = run(ours, &call).unwrap();
                let wanted = judge.verdict(&call);
                if verdict != wanted {
                    return Some(format!("{call:x?}: {verdict:#x}, wanted {wanted:#x}"));
                }
            }
        }
    }
    None
}

#[test]
fn default_profile_has_libseccomps_verdict_for_every_number() {
    let library = Library::open();
    for target in &TARGETS {
        let profile = known_to_both(&library, target, DEFAULT_PROFILE);
        let judge = Judge::new(&library, target, &profile).unwrap();
        let ours = compile_for(target.machine, &profile).unwrap();
        let mut random = Random(1);
        let arguments = arguments(&mut random, &profile);
        let conditional = ["socket", "clone", "personality"].iter().flat_map(|name| {
            target
                .architectures
                .iter()
                .filter_map(|arch| target.machine.number(*arch, name))
        });
        let found = difference(
            &ours.program,
            &judge,
            target.audits,
            all_numbers(),
            &arguments[..2],
        )
        .or_else(|| {
            difference(
                &ours.program,
                &judge,
                target.audits,
                conditional,
                &arguments,
            )
        });
        assert_eq!(found, None);
    }
}

#[test]
fn numbers_are_libseccomps_wherever_it_knows_the_call() {
    let library = Library::open();
    for target in &TARGETS {
        let mut known = 0;
        for name in target.machine.names() {
            for arch in target.architectures {
                let (ours, theirs) = (
                    target.machine.number(*arch, name),
                    library.number(*arch, name),
                );
                // It may be older than our table.
                if let Some(theirs) = theirs {
                    assert_eq!(ours, Some(theirs), "{name} on {arch}");
                    known += 1;
                }
            }
        }
        assert!(known > 700, "{known}");
    }
}

/// How generated profiles came out.
#[derive(Debug, Default)]
struct Tally {
    profiles: usize,
    calls: usize,
    /// Refused for contradicting rules; by libseccomp too.
    refused: usize,
    /// Profiles for which libseccomp's program does what no rule says.
    faults: usize,
    /// Profiles with overlapping rules of which libseccomp prefers another one.
    other_order: usize,
}

fn compare_generated(kind: Kind, seeds: Range<u64>) -> Tally {
    let library = Library::open();
    let mut tally = Tally::default();
    for target in &TARGETS {
        let mut names = target.common_names(&library);
        if matches!(kind, Kind::Single | Kind::OneArgument) {
            // libseccomp 2.5 drops the load of the number with the first call of an architecture
            // that lacks it.
            names.retain(|name| {
                let mut all = target.architectures.iter();
                all.all(|arch| target.machine.number(*arch, name).is_some())
            });
        }
        for seed in seeds.clone() {
            let mut random = Random(seed);
            let profile = profiles::generate(&mut random, kind, &names, target.architectures);
            let case = Case {
                library: &library,
                target,
                profile: &profile,
                kind,
                seed,
            };
            tally.profiles += 1;
            case.compare(&mut random, &mut tally);
        }
    }
    println!("{kind:?}: {tally:?}");
    tally
}

/// One generated profile.
struct Case<'a> {
    library: &'a Library,
    target: &'a Target,
    profile: &'a LinuxSeccomp,
    kind: Kind,
    seed: u64,
}

impl Case<'_> {
    fn compare(&self, random: &mut Random, tally: &mut Tally) {
        let judge = match self.kind {
            // libseccomp 2.5 hangs on some contradicting rules.
            Kind::AnyAction => Err(libc::EEXIST),
            _ => Judge::new(self.library, self.target, self.profile),
        };
        match compile_for(self.target.machine, self.profile) {
            Ok(ours) => self.run(&ours.program, judge.ok().as_ref(), random, tally),
            Err(error) => {
                let refused = judge.err();
                assert_eq!(refused, Some(libc::EEXIST), "{error:#}: {}", self.text());
                tally.refused += 1;
            }
        }
    }

    fn run(
        &self,
        ours: &[sock_filter],
        judge: Option<&Judge>,
        random: &mut Random,
        tally: &mut Tally,
    ) {
        let filtered = self.target.filtered(self.profile);
        let model = Model::new(self.target.machine, filtered, self.profile);
        let mut arguments = arguments(random, self.profile);
        if self.kind == Kind::OneArgument {
            for value in arguments.iter_mut().flatten() {
                *value &= 0xffff_ffff;
            }
        }
        let edges = edges(self.target, self.profile).into_iter().map(|number| {
            let many = model.looks_at_arguments(number);
            (number, &arguments[..if many { ARGUMENT_SETS } else { 1 }])
        });
        let every = all_numbers()
            .filter(|_| self.seed.is_multiple_of(20))
            .map(|number| (number, &arguments[..1]));
        let (mut fault, mut other_order) = (false, false);
        for (number, arguments) in edges.chain(every) {
            for call in calls(number, self.target.audits, arguments) {
                tally.calls += 1;
                let said = model.verdicts(&call);
                let (verdict, _) = run(ours, &call).unwrap();
                assert!(
                    said.contains(&verdict),
                    "{call:x?}: {verdict:#x}, {said:x?}: {}",
                    self.text()
                );
                let wanted = judge.map_or(verdict, |judge| judge.verdict(&call));
                if verdict != wanted && said.contains(&wanted) {
                    other_order = true;
                } else if verdict != wanted {
                    fault = true;
                }
            }
        }
        tally.faults += usize::from(fault);
        tally.other_order += usize::from(other_order);
    }

    fn text(&self) -> String {
        let profile = serde_json::to_string(self.profile).unwrap();
        format!("{:?}, seed {}: {profile}", self.kind, self.seed)
    }
}

fn calls<'a>(
    number: u32,
    audits: &'a [u32],
    arguments: &'a [[u64; 6]],
) -> impl Iterator<Item = Call> + 'a {
    audits.iter().flat_map(move |architecture| {
        arguments.iter().map(move |arguments| Call {
            number,
            architecture: *architecture,
            arguments: *arguments,
        })
    })
}

#[test]
fn profiles_with_one_conditional_rule_per_call_have_libseccomps_verdicts() {
    let tally = compare_generated(Kind::Single, 0..1500);
    assert_eq!((tally.faults, tally.other_order), (0, 0), "{tally:?}");
}

/// Where several rules for a call look at arguments, some of libseccomp 2.5's programs return what
/// no rule says. Ours never do; and these stay few, or it would be us who misread the profile.
#[test]
fn profiles_with_one_conditional_action_have_libseccomps_verdicts_but_for_its_faults() {
    let tally = compare_generated(Kind::OneAction, 0..1500);
    assert_eq!(tally.other_order, 0, "{tally:?}");
    assert!(tally.faults * 100 < tally.profiles * 8, "{tally:?}");
}

#[test]
fn any_generated_profile_has_only_verdicts_that_a_matching_rule_gives() {
    let tally = compare_generated(Kind::AnyAction, 0..1500);
    assert!(tally.refused * 100 < tally.profiles * 5, "{tally:?}");
}

/// For arguments up to 32 bits. Beyond, libseccomp 2.5's own order depends on the order in which the
/// rules were added.
#[test]
fn rules_that_overlap_are_tried_in_libseccomps_order() {
    let tally = compare_generated(Kind::OneArgument, 0..1500);
    assert_eq!((tally.faults, tally.other_order), (0, 0), "{tally:?}");
}

/// The profile with only such names as libseccomp has by the same numbers.
fn known_to_both(library: &Library, target: &Target, json: &str) -> LinuxSeccomp {
    let mut profile: LinuxSeccomp = serde_json::from_str(json).unwrap();
    let common = target.common_names(library);
    let mut rules = profile.syscalls().clone().unwrap();
    for rule in &mut rules {
        let known = rule
            .names()
            .iter()
            .filter(|name| common.contains(&name.as_str()));
        let known = known.cloned().collect();
        rule.set_names(known);
    }
    rules.retain(|rule| !rule.names().is_empty());
    profile.set_syscalls(Some(rules));
    profile
}

/// `cargo test --release --test seccomp -- --ignored --nocapture time`
#[test]
#[ignore = "a measurement"]
fn time_and_size_of_the_default_profile() {
    let profile: LinuxSeccomp = serde_json::from_str(DEFAULT_PROFILE).unwrap();
    let mut micros: Vec<u128> = (0..500)
        .map(|_| {
            let start = Instant::now();
            let compiled = compile_for(&X86_64, &profile).unwrap();
            let spent = start.elapsed().as_micros();
            assert!(!compiled.program.is_empty());
            spent
        })
        .collect();
    micros.sort_unstable();
    let compiled = compile_for(&X86_64, &profile).unwrap();
    println!(
        "compile: median {} us, first percentile {} us; {} instructions",
        micros[250],
        micros[5],
        compiled.program.len()
    );
    for (what, architecture, base) in [
        ("x86_64", 0xc000_003e, 0),
        ("x86", 0x4000_0003, 0),
        ("x32", 0xc000_003e, 0x4000_0000),
    ] {
        let steps: Vec<usize> = (base..base + 470)
            .map(|number| {
                let call = Call {
                    number,
                    architecture,
                    ..Call::default()
                };
                run(&compiled.program, &call).unwrap().1
            })
            .collect();
        println!(
            "{what}: {:.2} steps on average, {} at most",
            f64::from(u32::try_from(steps.iter().sum::<usize>()).unwrap()) / 470.0,
            steps.iter().max().unwrap()
        );
    }
    let library = Library::open();
    let start = Instant::now();
    let theirs = library.compile(&profile, TARGETS[0].architectures).unwrap();
    println!(
        "libseccomp: {} us, {} instructions",
        start.elapsed().as_micros(),
        theirs.len()
    );
    assert_eq!(
        action(profile.default_action(), None),
        libc::SECCOMP_RET_ERRNO | 1
    );
}
