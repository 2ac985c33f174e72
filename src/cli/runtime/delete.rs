//! `delete`.

use anyhow::Result;

use super::Context;
use crate::cli::args::Matches;
use crate::container;

pub(super) fn delete(context: &mut Context, matches: &Matches) -> Result<i32> {
    container::delete(
        &context.store,
        matches.operand(0, "ID")?,
        matches.has("force"),
    )?;
    Ok(0)
}
