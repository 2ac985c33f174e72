//! Where errors and warnings go: standard error, and the file of `--log`.
//!
//! containerd shows its users the last line of that file with `"level":"error"`, so the JSON keys are
//! runc's: level, msg, time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Result;

use crate::error::OrFailure;

/// The format of the log file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `time="..." level=error msg="..."`.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// The log of one command.
#[derive(Debug, Default)]
pub struct Log {
    file: Option<File>,
    format: Format,
}

impl Log {
    /// Appends to a file, made where it is missing.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path, format: Format) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.or_failure(|| format!("open log file {}", path.display()))?;
        Ok(Self {
            file: Some(file),
            format,
        })
    }

    /// Tells of the error that ends the command.
    pub fn error(&mut self, text: &str) {
        self.write("error", text);
        eprintln!("seedpod: {text}");
    }

    /// Tells of something that was not applied.
    pub fn warning(&mut self, text: &str) {
        self.write("warning", text);
        eprintln!("seedpod: warning: {text}");
    }

    fn write(&mut self, level: &str, text: &str) {
        let Some(file) = self.file.as_mut() else {
            return;
        };
        let time = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let line = match self.format {
            Format::Json => {
                serde_json::json!({"level": level, "msg": text, "time": time}).to_string()
            }
            Format::Text => format!("time=\"{time}\" level={level} msg={text:?}"),
        };
        // The error itself still goes to standard error.
        let _ = writeln!(file, "{line}");
    }
}
