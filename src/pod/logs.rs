//! Containers' output as files, in the format of the container runtime interface:
//! `RFC3339Nano stdout|stderr F|P text` (kubernetes "CRI logging"), one file per container instance.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;

use crate::error::OrFailure;
use crate::files;

/// A line that is longer is written in parts.
const LONGEST: usize = 16 * 1024;

/// One of a container's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn word(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Writes a log.
#[derive(Debug)]
pub struct Writer {
    file: File,
    pending: [Vec<u8>; 2],
}

impl Writer {
    /// Appends to a file, made with its directory where it is missing.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(directory) = path.parent() {
            files::make_directory(directory)?;
        }
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o640).open(path);
        let file = file.or_failure(|| format!("open log {}", path.display()))?;
        Ok(Self {
            file,
            pending: [Vec::new(), Vec::new()],
        })
    }

    /// Adds what a stream has written.
    ///
    /// # Errors
    /// As write(2).
    pub fn add(&mut self, stream: Stream, mut bytes: &[u8], now: SystemTime) -> io::Result<()> {
        let mut text = Vec::new();
        let pending = &mut self.pending[stream as usize];
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            pending.extend_from_slice(line);
            parts(&mut text, stream, pending, now);
            entry(&mut text, stream, "F", pending, now);
            pending.clear();
            bytes = rest.get(1..).unwrap_or_default();
        }
        pending.extend_from_slice(bytes);
        parts(&mut text, stream, pending, now);
        self.file.write_all(&text)
    }

    /// Writes what is left of lines that never ended.
    ///
    /// # Errors
    /// As write(2).
    pub fn finish(&mut self, now: SystemTime) -> io::Result<()> {
        let mut text = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = std::mem::take(&mut self.pending[stream as usize]);
            if !pending.is_empty() {
                entry(&mut text, stream, "F", &pending, now);
            }
        }
        self.file.write_all(&text)
    }
}

fn parts(text: &mut Vec<u8>, stream: Stream, pending: &mut Vec<u8>, now: SystemTime) {
    while pending.len() > LONGEST {
        let rest = pending.split_off(LONGEST);
        entry(text, stream, "P", pending, now);
        *pending = rest;
    }
}

fn entry(text: &mut Vec<u8>, stream: Stream, tag: &str, line: &[u8], now: SystemTime) {
    let time = humantime::format_rfc3339_nanos(now);
    text.extend_from_slice(format!("{time} {} {tag} ", stream.word()).as_bytes());
    text.extend_from_slice(line);
    text.push(b'\n');
}

/// Copies a log as the container wrote it; with `timestamps`, each line begins with its time.
/// What is no entry (a line that a crash cut off) is passed over.
///
/// # Errors
/// As read(2) and write(2).
pub fn print(path: &Path, timestamps: bool, out: &mut dyn Write) -> Result<()> {
    let file = File::open(path).or_failure(|| format!("open log {}", path.display()))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut fresh = true;
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line);
        if length.or_failure(|| format!("read log {}", path.display()))? == 0 {
            return Ok(());
        }
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (time, _, tag, text) = (fields.next(), fields.next(), fields.next(), fields.next());
        let (Some(time), Some(tag), Some(text)) = (time, tag, text) else {
            continue;
        };
        if timestamps && fresh {
            out.write_all(time)?;
            out.write_all(b" ")?;
        }
        fresh = tag == b"F";
        out.write_all(if fresh {
            text
        } else {
            text.strip_suffix(b"\n").unwrap_or(text)
        })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[(Stream, &[u8])]) -> (String, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c/0.log");
        let mut writer = Writer::open(&path).unwrap();
        for (stream, bytes) in parts {
            writer.add(*stream, bytes, SystemTime::UNIX_EPOCH).unwrap();
        }
        writer.finish(SystemTime::UNIX_EPOCH).unwrap();
        let mut out = Vec::new();
        print(&path, false, &mut out).unwrap();
        (std::fs::read_to_string(&path).unwrap(), out)
    }

    #[test]
    fn lines_have_time_stream_and_tag() {
        let (text, out) = written(&[
            (Stream::Stdout, b"a\nb"),
            (Stream::Stderr, b"e\n"),
            (Stream::Stdout, b"c\nd"),
        ]);
        let time = "1970-01-01T00:00:00.000000000Z";
        assert_eq!(
            text,
            format!(
                "{time} stdout F a\n{time} stderr F e\n{time} stdout F bc\n{time} stdout F d\n"
            )
        );
        assert_eq!(out, b"a\ne\nbc\nd\n");
    }

    #[test]
    fn long_line_comes_in_parts_and_is_printed_whole() {
        let long = [b'x'; 40_000];
        let (text, out) = written(&[(Stream::Stdout, &long), (Stream::Stdout, b"y\n")]);
        assert_eq!(text.matches(" P ").count(), 2);
        assert_eq!(out.len(), 40_002);
    }
}
