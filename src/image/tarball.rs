//! Reading tar streams: one typed entry at a time, with hard bounds.
//!
//! The `tar` crate supplies the header formats. Its own iterator is not used: it reads GNU long
//! names and pax records of any declared size into memory, splits pax records at newlines (which
//! binary file capabilities contain), and knows none of the pax sparse formats. Here an extended
//! header has a limit, a record is as long as it says, and all four GNU sparse formats come out as
//! one list of extents.

use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};
use tar::{EntryType, Header};

use super::pax::{self, Pax};

pub(super) const BLOCK: u64 = 512;
/// The most that a long name or a set of pax records may take.
const EXTENDED_MAX: u64 = 1 << 20;
/// The most extents that a sparse file may have.
const EXTENTS_MAX: usize = 64 << 10;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// One entry with everything that extended headers said about it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// As written: it may be absolute or contain `..`.
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
    pub(super) device: (u32, u32),
    /// The length of a file when it is unpacked.
    pub(super) size: u64,
    /// The data runs of a sparse file, in order.
    pub(super) extents: Option<Vec<Extent>>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data begin in the stream.
    pub(super) offset: u64,
}

/// A tar stream; reading from it gives the data of the current entry.
pub(super) struct Reader<R> {
    inner: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    position: u64,
    data_left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    /// A reader that skips data by reading them.
    pub(super) fn new(inner: R) -> Self {
        Self::with_skip(inner, |inner, count| {
            io::copy(&mut inner.take(count), &mut io::sink()).map(drop)
        })
    }

    /// A reader that skips data in its own way.
    pub(super) fn with_skip(inner: R, skip: fn(&mut R, u64) -> io::Result<()>) -> Self {
        Self {
            inner,
            skip,
            position: 0,
            data_left: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        let mut pax = None;
        let mut long_path = None;
        let mut long_link = None;
        loop {
            let Some(header) = self.header()? else {
                ensure!(
                    pax.is_none() && long_path.is_none() && long_link.is_none(),
                    "the tar ends after an extended header"
                );
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::GNULongName => long_path = Some(self.long_name()?),
                EntryType::GNULongLink => long_link = Some(self.long_name()?),
                EntryType::XHeader => pax = Some(pax::parse(&self.extended()?)?),
                // Global records carry comments (git) and defaults that no layer writer uses.
                EntryType::XGlobalHeader => drop(self.extended()?),
                _ => {
                    let mut pax = pax.unwrap_or_default();
                    let path = pax.take_path().or(long_path);
                    let link = pax.take_link().or(long_link);
                    return self.entry(&header, pax, path, link).map(Some);
                }
            }
        }
    }

    /// Reads a header block and stands before its data; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        self.skip_data()?;
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let at = self.position - BLOCK;
        ensure!(
            number(&header.as_old().cksum).ok() == Some(checksum(header.as_bytes()).into()),
            "not a tar header at byte {at}: its checksum is wrong"
        );
        self.data_left =
            number(&header.as_old().size).with_context(|| format!("tar header at byte {at}"))?;
        self.set_padding();
        Ok(Some(header))
    }

    fn set_padding(&mut self) {
        self.padding = (BLOCK - self.data_left % BLOCK) % BLOCK;
    }

    /// Reads one block; false when the stream ends before it.
    fn block(&mut self, block: &mut [u8; 512]) -> Result<bool> {
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.inner.read(rest)? {
                0 if filled == 0 => return Ok(false),
                0 => bail!("the tar is truncated at byte {}", self.position),
                count => filled += count,
            }
        }
        self.position += BLOCK;
        Ok(true)
    }

    fn skip_data(&mut self) -> Result<()> {
        let count = self
            .data_left
            .checked_add(self.padding)
            .context("a tar entry has an impossible size")?;
        (self.skip)(&mut self.inner, count)?;
        self.position = self.position.saturating_add(count);
        self.data_left = 0;
        self.padding = 0;
        Ok(())
    }

    /// The data of an extended header.
    fn extended(&mut self) -> Result<Vec<u8>> {
        ensure!(
            self.data_left <= EXTENDED_MAX,
            "an extended tar header of {} bytes is over the limit of {EXTENDED_MAX}",
            self.data_left
        );
        let declared = self.data_left;
        let mut data = Vec::new();
        self.read_to_end(&mut data)?;
        ensure!(
            data.len() as u64 == declared,
            "the tar is truncated in an extended header"
        );
        Ok(data)
    }

    fn long_name(&mut self) -> Result<Vec<u8>> {
        let mut name = self.extended()?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn entry(
        &mut self,
        header: &Header,
        mut pax: Pax,
        path: Option<Vec<u8>>,
        link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = link
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let name = String::from_utf8_lossy(&path).into_owned();
        let kind = kind(header.entry_type(), &path).with_context(|| format!("entry {name:?}"))?;
        if let Some(size) = pax.size {
            self.data_left = size;
        }
        // A link or a directory with a size has no data: POSIX pax, "size".
        if kind != Kind::File {
            self.data_left = 0;
        }
        self.set_padding();
        let (size, extents) = self
            .sparse(header, &mut pax)
            .with_context(|| format!("sparse file {name:?}"))?;
        let old = header.as_old();
        let id = |pax: Option<u64>, field: &[u8]| narrow(pax.map_or_else(|| number(field), Ok)?);
        let mtime = || i64::try_from(number(&old.mtime).unwrap_or(0)).unwrap_or(0);
        Ok(Entry {
            kind,
            path,
            link,
            mode: u32::try_from(number(&old.mode)? & 0o7777)?,
            uid: id(pax.uid, &old.uid).with_context(|| format!("owner of {name:?}"))?,
            gid: id(pax.gid, &old.gid).with_context(|| format!("group of {name:?}"))?,
            mtime: pax.mtime.unwrap_or_else(|| (mtime(), 0)),
            device: device(header).with_context(|| format!("device {name:?}"))?,
            size,
            extents,
            xattrs: pax.xattrs,
            offset: self.position,
        })
    }

    /// The unpacked size, and the extents of a sparse file.
    fn sparse(&mut self, header: &Header, pax: &mut Pax) -> Result<(u64, Option<Vec<Extent>>)> {
        let (size, extents) = if header.entry_type() == EntryType::GNUSparse {
            let gnu = header.as_gnu().context("the header is not a GNU header")?;
            (number(&gnu.realsize)?, self.gnu_extents(gnu)?)
        } else if let Some(size) = pax.sparse_size {
            let extents = match pax.sparse_map.take() {
                Some(map) => map,
                None => self.leading_map()?,
            };
            (size, extents)
        } else {
            return Ok((self.data_left, None));
        };
        check_extents(&extents, size, self.data_left)?;
        Ok((size, Some(extents)))
    }

    /// The map of the old GNU format: four extents in the header, 21 in each block that follows.
    fn gnu_extents(&mut self, gnu: &tar::GnuHeader) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        push_extents(&mut extents, &gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            ensure!(
                self.block(block.as_mut_bytes())?,
                "the tar is truncated at byte {}",
                self.position
            );
            push_extents(&mut extents, block.sparse())?;
            more = block.is_extended();
        }
        Ok(extents)
    }

    /// The map of GNU.sparse 1.0: decimal lines before the data, padded to a block.
    fn leading_map(&mut self) -> Result<Vec<Extent>> {
        let mut block = [0; 512];
        let mut at = block.len();
        let mut taken = 0;
        let mut number = || -> Result<u64> {
            let mut digits = String::new();
            loop {
                if at == block.len() {
                    taken += BLOCK;
                    ensure!(taken <= EXTENDED_MAX, "the map is too large");
                    self.read_exact(&mut block)?;
                    at = 0;
                }
                let byte = block.get(at).copied().unwrap_or_default();
                at += 1;
                match byte {
                    b'\n' => return Ok(digits.parse()?),
                    b'0'..=b'9' if digits.len() < 20 => digits.push(char::from(byte)),
                    _ => bail!("the map is not decimal numbers"),
                }
            }
        };
        let count = number()?;
        ensure!(count <= EXTENTS_MAX as u64, "{count} extents are too many");
        (0..count)
            .map(|_| {
                Ok(Extent {
                    offset: number()?,
                    len: number()?,
                })
            })
            .collect()
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.by_ref().take(self.data_left).read(buffer)?;
        self.data_left -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

fn kind(entry_type: EntryType, path: &[u8]) -> Result<Kind> {
    Ok(match entry_type {
        // Before POSIX a directory was a file whose name ends in a slash.
        EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Char => Kind::CharDevice,
        EntryType::Block => Kind::BlockDevice,
        EntryType::Fifo => Kind::Fifo,
        other => bail!(
            "tar entry type {:?} is not known",
            char::from(other.as_byte())
        ),
    })
}

/// A numeric field: octal digits between blanks, or base 256 where the first bit is set. An empty
/// field is zero, as most readers have it.
fn number(field: &[u8]) -> Result<u64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        ensure!(first & 0x40 == 0, "a tar header has a negative number");
        return rest
            .iter()
            .try_fold(u64::from(first & 0x3f), |value, byte| {
                Some(value.checked_mul(256)? | u64::from(*byte))
            })
            .context("a tar header has a number that is too large");
    }
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text)?.trim_matches(' ');
    if text.is_empty() {
        return Ok(0);
    }
    ensure!(!text.starts_with('+'), "a tar header has a signed number");
    u64::from_str_radix(text, 8).with_context(|| format!("a tar header has {text:?} for a number"))
}

/// The device number; only device entries are sure to have one.
fn device(header: &Header) -> Result<(u32, u32)> {
    if !matches!(header.entry_type(), EntryType::Char | EntryType::Block) {
        return Ok((0, 0));
    }
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (number(&ustar.dev_major)?, number(&ustar.dev_minor)?),
        (_, Some(gnu)) => (number(&gnu.dev_major)?, number(&gnu.dev_minor)?),
        _ => bail!("the header's format has no devices"),
    };
    Ok((u32::try_from(major)?, u32::try_from(minor)?))
}

/// An owner that fits; the largest number means "no change" to chown(2), so it is no owner.
fn narrow(id: u64) -> Result<u32> {
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => bail!("{id} is not a user or group number"),
    }
}

fn checksum(block: &[u8; 512]) -> u32 {
    // The checksum's own field counts as spaces: POSIX ustar, chksum.
    let blank = 148..156;
    block
        .iter()
        .enumerate()
        .map(|(at, byte)| u32::from(if blank.contains(&at) { b' ' } else { *byte }))
        .sum()
}

fn push_extents(extents: &mut Vec<Extent>, headers: &[tar::GnuSparseHeader]) -> Result<()> {
    for header in headers
        .iter()
        .filter(|header| header.numbytes[0] != 0 || header.offset[0] != 0)
    {
        ensure!(extents.len() < EXTENTS_MAX, "there are too many extents");
        extents.push(Extent {
            offset: number(&header.offset)?,
            len: number(&header.numbytes)?,
        });
    }
    Ok(())
}

fn check_extents(extents: &[Extent], size: u64, stored: u64) -> Result<()> {
    let mut end = 0u64;
    let mut total = 0u64;
    for extent in extents {
        ensure!(extent.offset >= end, "its extents overlap");
        end = extent
            .offset
            .checked_add(extent.len)
            .context("an extent has an impossible end")?;
        total = total.saturating_add(extent.len);
    }
    ensure!(end <= size, "an extent is behind the end of the file");
    ensure!(
        total == stored,
        "its extents hold {total} bytes and the archive {stored}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tar, gnu_tar, pax_record};
    use super::*;

    fn entries(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
        let mut reader = Reader::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = reader.next()? {
            let mut data = Vec::new();
            reader.read_to_end(&mut data)?;
            all.push((entry, data));
        }
        Ok(all)
    }

    fn only(bytes: &[u8]) -> (Entry, Vec<u8>) {
        let mut all = entries(bytes).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn gnu_long_names_and_pax_names_are_read() {
        let long = "d/".repeat(150) + "file";
        for format in ["gnu", "posix"] {
            let dir = tempfile::tempdir().unwrap();
            let parent = dir.path().join(&long);
            std::fs::create_dir_all(parent.parent().unwrap()).unwrap();
            std::fs::write(&parent, b"x").unwrap();
            let bytes = gnu_tar(dir.path(), &["--format", format, &long]);
            let (entry, data) = only(&bytes);
            assert_eq!(entry.path, long.as_bytes());
            assert_eq!(data, b"x");
        }
    }

    #[test]
    fn every_sparse_format_gives_the_extents() {
        use std::os::unix::fs::FileExt;
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("sparse")).unwrap();
        for at in 0..40u64 {
            file.write_all_at(&[1; 4096], at << 20).unwrap();
        }
        file.set_len(64 << 20).unwrap();
        for arguments in [
            vec!["--format", "gnu"],
            vec!["--format", "posix", "--sparse-version", "0.0"],
            vec!["--format", "posix", "--sparse-version", "0.1"],
            vec!["--format", "posix", "--sparse-version", "1.0"],
        ] {
            let arguments = [&arguments[..], &["--sparse", "sparse"]].concat();
            let (entry, data) = only(&gnu_tar(dir.path(), &arguments));
            assert_eq!(entry.path, b"sparse", "{arguments:?}");
            assert_eq!(entry.size, 64 << 20, "{arguments:?}");
            let extents = entry.extents.unwrap();
            let filled: Vec<_> = extents.iter().filter(|e| e.len > 0).collect();
            assert_eq!(filled.len(), 40, "{arguments:?}");
            assert_eq!(filled[39].offset, 39 << 20);
            assert_eq!(data.len(), 40 * 4096, "{arguments:?}");
        }
    }

    #[test]
    fn pax_record_with_newlines_in_its_value_is_whole() {
        let value = b"\x01\0\0\x02\n\n=\n\0\x0a";
        let record = pax_record(b"SCHILY.xattr.security.capability", value);
        let bytes = Tar::new().pax(&record).file("f", b"x").finish();
        let (entry, _) = only(&bytes);
        assert_eq!(
            entry.xattrs,
            [(b"security.capability".to_vec(), value.to_vec())]
        );
    }

    #[test]
    fn huge_extended_header_is_refused_before_it_is_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = entries(header.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("over the limit"), "{error}");
    }

    #[test]
    fn owner_that_means_no_change_is_refused() {
        let bytes = Tar::new()
            .pax(&pax_record(b"uid", b"4294967295"))
            .file("f", b"x")
            .finish();
        assert!(entries(&bytes).is_err());
    }

    #[test]
    fn damaged_header_and_short_block_are_errors() {
        let mut bytes = Tar::new().file("f", b"x").finish();
        bytes[0] = b'g';
        assert!(entries(&bytes).is_err());
        let bytes = Tar::new().file("f", b"x").finish();
        assert!(entries(&bytes[..700]).is_ok_and(|all| all.len() == 1));
        assert!(entries(&bytes[..300]).is_err());
    }

    #[test]
    fn numbers_are_octal_or_base_256_or_blank() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b" 644 \0x").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0").unwrap(), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0").unwrap(), 256);
        assert!(number(b"\xff\xff\xff\xff").is_err());
        assert!(number(b"\x80\x01\0\0\0\0\0\0\0\0\0\0").is_err());
        assert!(number(b"9").is_err() && number(b"-1").is_err() && number(b"+1").is_err());
    }

    #[test]
    fn sparse_map_that_lies_is_refused() {
        let extent = |offset, len| Extent { offset, len };
        assert!(check_extents(&[extent(0, 5), extent(4, 1)], 10, 6).is_err());
        assert!(check_extents(&[extent(8, 5)], 10, 5).is_err());
        assert!(check_extents(&[extent(u64::MAX, 5)], u64::MAX, 5).is_err());
        assert!(check_extents(&[extent(0, 5)], 10, 6).is_err());
        assert!(check_extents(&[extent(0, 5), extent(9, 1)], 10, 6).is_ok());
    }
}
