//! `podctl apply`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use super::out;
use crate::error::OrFailure;
use crate::pod::apply::apply;
use crate::pod::spec;
use crate::pod::store::Store;

/// `podctl apply`.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Manifest, as YAML or JSON; `-` is the standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Apply, store: &Store) -> Result<i32> {
    // Everything is read before anything is made: a mistake in the last file changes nothing.
    let mut pods = Vec::new();
    for file in &arguments.files {
        pods.extend(read(file)?);
    }
    let program = std::env::current_exe().or_failure(|| "find podctl itself")?;
    let mut code = 0;
    for pod in pods {
        let mut warnings = Vec::new();
        let applied = apply(store, &pod, &program, &mut warnings);
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        match applied {
            Ok(applied) => out(&format!("pod/{} {}\n", pod.metadata.name, applied.word()))?,
            // The others are still made.
            Err(error) => {
                eprintln!("error: {error:#}");
                code = 1;
            }
        }
    }
    Ok(code)
}

/// The pods of a manifest; its warnings are printed.
pub(super) fn read(file: &Path) -> Result<Vec<spec::Pod>> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.or_failure(|| format!("read {}", file.display()))?;
    match spec::load(&file.display().to_string(), &text) {
        Ok(loaded) => {
            for warning in loaded.warnings {
                eprintln!("warning: {warning}");
            }
            Ok(loaded.pods)
        }
        Err(problems) => bail!("{problems}"),
    }
}
