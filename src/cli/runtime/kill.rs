//! `kill`.

use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::Context;
use crate::cli::args::Matches;
use crate::container;

pub(super) fn kill(context: &mut Context, matches: &Matches) -> Result<i32> {
    let id = matches.operand(0, "ID")?;
    let signal = match matches.operands.len() {
        1 => libc::SIGTERM,
        _ => parse_signal(matches.operand(1, "SIGNAL")?)?,
    };
    container::kill(&context.store, id, signal, matches.has("all"))?;
    Ok(0)
}

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`; 0 only checks.
fn parse_signal(text: &str) -> Result<i32> {
    let unknown = || format!("unknown signal `{text}`");
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i32 = text.parse().with_context(unknown)?;
        ensure!(number <= 64, "{}", unknown());
        return Ok(number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() {
            0
        } else {
            offset.parse().with_context(unknown)?
        };
        ensure!((0..=30).contains(&offset), "{}", unknown());
        return Ok(34 + offset);
    }
    Ok(Signal::from_str(&format!("SIG{name}"))
        .ok()
        .with_context(unknown)? as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("0", 0),
            ("RTMIN+3", 37),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number);
        }
        for text in ["", "FOO", "65", "-1", "RTMIN+99"] {
            parse_signal(text).unwrap_err();
        }
    }
}
