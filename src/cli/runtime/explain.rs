//! `explain`.

use std::path::Path;

use anyhow::Result;

use super::{Context, out};
use crate::cli::args::Matches;
use crate::container::CreateRequest;

pub(super) fn explain(context: &mut Context, matches: &Matches) -> Result<i32> {
    let id = if matches.operands.is_empty() {
        "ID"
    } else {
        matches.operand(0, "ID")?
    };
    let bundle = matches.get("bundle").map_or(Path::new("."), Path::new);
    let request = CreateRequest::of_bundle(id, bundle)?;
    let mut warnings = Vec::new();
    let plan = request.plan(&mut warnings);
    context.warn(warnings);
    out(&crate::plan::explain::explain(&plan?.2))?;
    Ok(0)
}
