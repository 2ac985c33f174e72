//! `list`.

use anyhow::{Result, bail};

use super::state::Shown;
use super::{Context, out};
use crate::cli::args::Matches;
use crate::container::View;
use crate::error::OrFailure;

pub(super) fn list(context: &mut Context, matches: &Matches) -> Result<i32> {
    if context.explicit_root {
        let root = context.store.root();
        std::fs::metadata(root).or_failure(|| format!("--root {}", root.display()))?;
    }
    let ids = context.store.ids()?;
    if matches.has("quiet") {
        out(&ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
        return Ok(0);
    }
    let mut shown = Vec::new();
    for id in ids {
        match View::of(&context.store, &id) {
            Ok(view) => shown.push(Shown::of(&view)),
            // Deleted meanwhile.
            Err(_) if context.store.entry(&id).is_err() => {}
            Err(error) => context.log.warning(&format!("{error:#}")),
        }
    }
    match matches.text("format")? {
        None | Some("table") => out(&table(&shown))?,
        Some("json") => out(&format!("{}\n", serde_json::to_string(&shown)?))?,
        Some(other) => bail!("--format: `{other}` is neither table nor json"),
    }
    Ok(0)
}

fn table(shown: &[Shown]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = shown.iter().map(|it| {
        let owner = it.owner.clone();
        [
            it.id.clone(),
            it.pid.to_string(),
            it.status.into(),
            it.bundle.clone(),
            it.created.clone(),
            owner,
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
            let last = column + 1 == row.len();
            let cell = if last {
                cell.clone()
            } else {
                format!("{cell:<width$}  ")
            };
            text.push_str(&cell);
        }
        text.push('\n');
    }
    text
}
