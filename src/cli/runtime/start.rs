//! `start`.

use anyhow::Result;

use super::Context;
use crate::cli::args::Matches;
use crate::container;

pub(super) fn start(context: &mut Context, matches: &Matches) -> Result<i32> {
    let mut warnings = Vec::new();
    let result = container::start(&context.store, matches.operand(0, "ID")?, &mut warnings);
    context.warn(warnings);
    result.map(|()| 0)
}
