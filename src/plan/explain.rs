//! A plan as text: one line a step, in order, who does it first. What a review reads, and what the
//! golden tests compare.

use std::fmt::Write;

use super::Plan;
use super::op::{Op, kinds, show};

/// The whole plan. Each line is `WHO NUMBER STEP`, numbers from 0 for each who.
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    let mut parent = Lines {
        text: &mut text,
        who: "parent",
        number: 0,
    };
    if let Some(cgroup) = &plan.cgroup {
        parent.line(&format!("make cgroup {}", cgroup.path));
        for write in &cgroup.writes {
            parent.line(&format!("write {} to {}", write.value, write.file));
        }
        if let Some(owner) = cgroup.owner {
            parent.line(&format!("give the cgroup to uid {owner}"));
        }
        parent.line(&format!(
            "attach device program, {} instructions",
            cgroup.devices.len()
        ));
    }
    for open in &plan.open {
        parent.line(&open.to_string());
    }
    if let Some(slot) = plan.join_pid {
        parent.line(&format!("join pid namespace of {slot} for children"));
    }
    if let Some(offsets) = &plan.new_time {
        parent.line("new time namespace for children");
        for it in offsets {
            parent.line(&format!(
                "write time offset {} {} {}",
                it.clock, it.seconds, it.nanoseconds
            ));
        }
    }
    let born = if plan.has_stage() {
        "the stage"
    } else {
        "the child"
    };
    parent.line(&format!(
        "clone {born} into the cgroup, new namespaces: {}",
        kinds(plan.clone_flags)
    ));
    grant(plan, &mut parent);
    children(plan, &mut text);
    let strings = |strings: &crate::sys::process::ExecStrings| {
        strings
            .strings()
            .iter()
            .map(|it| format!("{:?}", show(it)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let _ = writeln!(text, "args   {}", strings(&plan.strings.args));
    let _ = writeln!(text, "env    {}", strings(&plan.strings.env));
    text
}

fn grant(plan: &Plan, parent: &mut Lines<'_>) {
    if let Some(maps) = &plan.grant.maps {
        for (name, lines) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
            for line in lines {
                parent.line(&format!(
                    "write {} {} {} to {name}",
                    line.inside, line.outside, line.count
                ));
            }
        }
    }
    if let Some(score) = plan.grant.oom_score_adj {
        parent.line(&format!("write {score} to oom_score_adj"));
    }
    for limit in &plan.grant.rlimits {
        parent.line(&format!(
            "raise hard limit {} where it is lower",
            limit.name
        ));
    }
    parent.line("tell the child to go");
}

fn children(plan: &Plan, text: &mut String) {
    let mut lines = Lines {
        text,
        who: if plan.has_stage() { "stage" } else { "child" },
        number: 0,
    };
    for op in &plan.ops {
        lines.line(&op.to_string());
        if matches!(op, Op::CloneChild { .. }) {
            lines.who = "child";
        }
    }
}

struct Lines<'a> {
    text: &'a mut String,
    who: &'static str,
    number: usize,
}

impl Lines<'_> {
    fn line(&mut self, step: &str) {
        let _ = writeln!(self.text, "{:<6} {:>3}  {step}", self.who, self.number);
        self.number += 1;
    }
}
