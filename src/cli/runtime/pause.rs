//! `pause` and `resume`.

use anyhow::Result;

use super::Context;
use crate::cli::args::Matches;
use crate::container;

pub(super) fn pause(context: &mut Context, matches: &Matches, paused: bool) -> Result<i32> {
    container::pause(&context.store, matches.operand(0, "ID")?, paused)?;
    Ok(0)
}
