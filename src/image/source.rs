//! The file or directory that images are loaded from, as a set of named members.
//!
//! A directory is read in place. A plain tar is indexed once by its headers and then read at
//! offsets. A compressed tar, or one from a pipe, is first written out to a nameless file in the
//! store, because an archive's index may stand behind what it describes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::beneath::{Inside, resolve};
use super::compress::{Compression, Decoder};
use super::tarball::{Kind, Reader};
use super::{Event, Limits, Report};
use crate::error::OrFailure;

/// How many links from member to member are followed: old `docker save` has one.
const LINKS_MAX: usize = 8;
/// How many members an archive may have.
const MEMBERS_MAX: usize = 1 << 20;

/// Where images come from.
pub(super) enum Source {
    Directory(OwnedFd),
    Tar(Tar),
}

/// A tar and where its members are.
pub(super) struct Tar {
    file: File,
    members: HashMap<String, Member>,
}

enum Member {
    Data { offset: u64, size: u64 },
    Link(String),
}

impl Source {
    /// Opens a directory, a tar, or a compressed tar; `spool` is a directory for a temporary file.
    pub(super) fn open(
        path: &Path,
        spool: &Path,
        limits: &Limits,
        report: Report<'_>,
    ) -> Result<Self> {
        let mut file =
            File::open(path).or_failure(|| format!("open image archive {}", path.display()))?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(Self::Directory(file.into()));
        }
        // What cannot be read at offsets, a pipe, is written out like a compressed archive.
        let plain = metadata.is_file() && {
            let mut start = Vec::new();
            (&file).take(4).read_to_end(&mut start)?;
            file.rewind()?;
            Compression::of(&start) == Compression::Plain
        };
        if !plain {
            file = expand(file, spool, limits, report)?;
        }
        Ok(Self::Tar(Tar {
            members: members(&file)?,
            file,
        }))
    }

    /// Opens a member by its path; `None` if there is none.
    pub(super) fn member(&self, name: &str) -> Result<Option<(Box<dyn Read + '_>, u64)>> {
        match self {
            Self::Directory(directory) => {
                // O_NONBLOCK: a fifo in the place of a blob must not hold the load up.
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
                let file: File = match resolve(directory, Path::new(name), flags) {
                    Ok(fd) => fd.into(),
                    Err(Errno::ENOENT) => return Ok(None),
                    Err(errno) => Err(errno).or_failure(|| format!("open {name}"))?,
                };
                let metadata = file.metadata()?;
                ensure!(metadata.is_file(), "{name} is not a file");
                Ok(Some((Box::new(file), metadata.len())))
            }
            Self::Tar(tar) => Ok(tar.find(name)?.map(|(offset, size)| {
                let range = Range {
                    file: &tar.file,
                    at: offset,
                    end: offset + size,
                };
                let reader: Box<dyn Read> = Box::new(range);
                (reader, size)
            })),
        }
    }

    /// Reads a whole member of at most `max` bytes; `None` if there is none.
    pub(super) fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let Some((reader, size)) = self.member(name)? else {
            return Ok(None);
        };
        ensure!(
            size <= max,
            "{name} has {size} bytes, over the limit of {max}"
        );
        let mut bytes = Vec::new();
        reader
            .take(size)
            .read_to_end(&mut bytes)
            .or_failure(|| format!("read {name}"))?;
        ensure!(bytes.len() as u64 == size, "{name} is truncated");
        Ok(Some(bytes))
    }
}

impl Tar {
    fn find(&self, name: &str) -> Result<Option<(u64, u64)>> {
        let mut name = normal(name.as_bytes()).with_context(|| format!("member {name:?}"))?;
        for _ in 0..LINKS_MAX {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Member::Data { offset, size }) => return Ok(Some((*offset, *size))),
                Some(Member::Link(target)) => name.clone_from(target),
            }
        }
        bail!("{name} is a chain of links that is too long or has no end")
    }
}

/// A run of bytes of a file, read without moving the file's position.
struct Range<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let want = left.min(buffer.len());
        let count = self
            .file
            .read_at(buffer.get_mut(..want).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn expand(file: File, spool: &Path, limits: &Limits, report: Report<'_>) -> Result<File> {
    let mut out = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_TMPFILE.bits())
        .mode(0o600)
        .open(spool)
        .or_failure(|| format!("make a temporary file in {}", spool.display()))?;
    let mut decoder = Decoder::new(file)?;
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0u64;
    loop {
        let count = decoder.read(&mut buffer).context("the archive")?;
        if count == 0 {
            return Ok(out);
        }
        bytes += count as u64;
        ensure!(
            bytes <= limits.archive_bytes,
            "the archive is longer than the limit of {} bytes when it is decompressed",
            limits.archive_bytes
        );
        out.write_all(buffer.get(..count).unwrap_or_default())
            .or_failure(|| format!("write a temporary file in {}", spool.display()))?;
        report(&Event::Expanding { bytes });
    }
}

fn members(file: &File) -> Result<HashMap<String, Member>> {
    let mut stream = BufReader::with_capacity(4096, file);
    stream.rewind()?;
    let length = file.metadata()?.len();
    let mut reader = Reader::with_skip(stream, |stream, count| {
        let count = i64::try_from(count).map_err(io::Error::other)?;
        stream.seek_relative(count)
    });
    let mut members = HashMap::new();
    while let Some(entry) = reader
        .next()
        .context("it is neither a directory nor a tar")?
    {
        // A name that leaves the archive names nothing in it.
        let Ok(name) = normal(&entry.path) else {
            continue;
        };
        let member = match entry.kind {
            Kind::File if entry.extents.is_some() => bail!("{name} is stored as a sparse file"),
            Kind::File => {
                let end = entry.offset.checked_add(entry.size);
                ensure!(
                    end.is_some_and(|end| end <= length),
                    "the archive is truncated in {name}"
                );
                Member::Data {
                    offset: entry.offset,
                    size: entry.size,
                }
            }
            Kind::HardLink => match normal(&entry.link) {
                Ok(target) => Member::Link(target),
                Err(_) => continue,
            },
            Kind::Symlink => match beside(&name, &entry.link) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            _ => continue,
        };
        ensure!(
            members.len() < MEMBERS_MAX,
            "the archive has more than {MEMBERS_MAX} members"
        );
        members.insert(name, member);
    }
    Ok(members)
}

/// `./a//b` as `a/b`.
fn normal(name: &[u8]) -> Result<String> {
    let inside = Inside::new(name)?;
    let text = inside.to_string();
    ensure!(!text.is_empty(), "the name is empty");
    Ok(text)
}

/// The member that a symlink means; `None` when it leaves the archive.
fn beside(name: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    let mut path = PathBuf::from(name);
    path.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." if !path.pop() => return None,
            ".." => {}
            component => path.push(component),
        }
    }
    path.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tar, gzip, zstd};
    use super::*;

    fn open(bytes: &[u8], limits: &Limits) -> Result<Source> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        std::fs::write(&path, bytes).unwrap();
        Source::open(&path, dir.path(), limits, &mut |_| {})
    }

    fn archive() -> Vec<u8> {
        Tar::new()
            .file("./index.json", b"old")
            .file("big", &[7; 10_000])
            .symlink("a/layer.tar", "../big")
            .symlink("a/out", "../../big")
            .symlink("loop", "loop")
            .file("index.json", b"new")
            .finish()
    }

    #[test]
    fn members_are_found_whatever_the_compression() {
        let plain = archive();
        for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
            let source = open(&bytes, &Limits::default()).unwrap();
            assert_eq!(source.read("index.json", 10).unwrap().unwrap(), b"new");
            let layer = source.read("a/layer.tar", 1 << 20).unwrap().unwrap();
            assert_eq!(layer, [7; 10_000]);
            assert!(source.read("a/out", 10).unwrap().is_none());
            assert!(source.read("missing", 10).unwrap().is_none());
            assert!(source.read("loop", 10).is_err());
            assert!(source.read("big", 10).is_err(), "over the caller's limit");
        }
    }

    #[test]
    fn archive_that_expands_without_end_is_stopped() {
        let bytes = gzip(&vec![0; 10 << 20]);
        let limits = Limits {
            archive_bytes: 1 << 20,
            ..Limits::default()
        };
        let error = open(&bytes, &limits).err().unwrap().to_string();
        assert!(error.contains("longer than the limit"), "{error}");
    }

    #[test]
    fn truncated_archives_are_errors() {
        let plain = archive();
        let error = open(&plain[..2000], &Limits::default()).err().unwrap();
        assert!(error.to_string().contains("truncated in big"), "{error:#}");
        let packed = gzip(&plain);
        let error = open(&packed[..packed.len() / 2], &Limits::default());
        let error = format!("{:#}", error.err().unwrap());
        assert!(error.contains("gzip stream is truncated"), "{error}");
    }

    #[test]
    fn directory_member_that_points_outside_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        let layout = dir.path().join("layout");
        std::fs::create_dir(&layout).unwrap();
        std::os::unix::fs::symlink("../secret", layout.join("index.json")).unwrap();
        nix::unistd::mkfifo(&layout.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let source = Source::open(&layout, dir.path(), &Limits::default(), &mut |_| {}).unwrap();
        assert!(source.read("index.json", 100).unwrap().is_none());
        assert!(source.read("../secret", 100).unwrap().is_none());
        assert!(source.read("fifo", 100).is_err());
    }
}
