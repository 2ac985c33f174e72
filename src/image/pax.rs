//! Pax extended header records: `LENGTH KEY=VALUE\n`, POSIX pax, with the GNU and star keys that
//! layers use.
//!
//! A record is as long as it says it is, so its value may hold newlines and zero bytes.

use anyhow::{Context, Result, ensure};

use super::tarball::Extent;

/// What the records of one entry say.
#[derive(Debug, Default)]
pub(super) struct Pax {
    path: Option<Vec<u8>>,
    sparse_name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, i64)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The unpacked size of a sparse file.
    pub(super) sparse_size: Option<u64>,
    /// GNU.sparse 0.0 and 0.1; in 1.0 the map is before the data.
    pub(super) sparse_map: Option<Vec<Extent>>,
}

impl Pax {
    pub(super) fn take_path(&mut self) -> Option<Vec<u8>> {
        // In a sparse entry `path` is a made-up name for programs that do not know the format.
        self.sparse_name.take().or_else(|| self.path.take())
    }

    pub(super) fn take_link(&mut self) -> Option<Vec<u8>> {
        self.link.take()
    }
}

/// Reads all records of one extended header.
pub(super) fn parse(mut data: &[u8]) -> Result<Pax> {
    let mut pax = Pax::default();
    let mut offset = None;
    while !data.is_empty() {
        let (key, value, rest) = record(data).context("a pax record is malformed")?;
        data = rest;
        apply(&mut pax, &mut offset, key, value)
            .with_context(|| format!("pax record {:?}", String::from_utf8_lossy(key)))?;
    }
    Ok(pax)
}

/// Splits the first record off: its key, its value, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let length: usize = text(data.get(..space)?)?.parse().ok()?;
    let (body, newline) = data
        .get(space + 1..length)?
        .split_at_checked(length.checked_sub(space + 2)?)?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (body.get(..equals)?, body.get(equals + 1..)?);
    (newline == b"\n").then_some((key, value, data.get(length..)?))
}

fn apply(pax: &mut Pax, offset: &mut Option<u64>, key: &[u8], value: &[u8]) -> Result<()> {
    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
        ensure!(!name.is_empty(), "the attribute has no name");
        pax.xattrs.push((name.to_vec(), value.to_vec()));
        return Ok(());
    }
    match key {
        b"path" => pax.path = Some(value.to_vec()),
        b"linkpath" => pax.link = Some(value.to_vec()),
        b"size" => pax.size = Some(number(value)?),
        b"uid" => pax.uid = Some(number(value)?),
        b"gid" => pax.gid = Some(number(value)?),
        b"mtime" => pax.mtime = Some(time(value)?),
        b"GNU.sparse.name" => pax.sparse_name = Some(value.to_vec()),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => pax.sparse_size = Some(number(value)?),
        b"GNU.sparse.map" => pax.sparse_map = Some(map(value)?),
        b"GNU.sparse.offset" => *offset = Some(number(value)?),
        b"GNU.sparse.numbytes" => {
            let offset = offset.take().context("it has no GNU.sparse.offset")?;
            let len = number(value)?;
            let map = pax.sparse_map.get_or_insert_default();
            map.push(Extent { offset, len });
        }
        // Names of users and groups, access times, comments: nothing that an image keeps.
        _ => {}
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn number(value: &[u8]) -> Result<u64> {
    text(value)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .context("it is not a number")
}

/// `1700000000.123456789`, perhaps negative; digits after the ninth are dropped.
fn time(value: &[u8]) -> Result<(i64, i64)> {
    let text = text(value).context("it is not a time")?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut seconds: i64 = whole.parse().context("it is not a time")?;
    ensure!(
        fraction.bytes().all(|byte| byte.is_ascii_digit()),
        "it is not a time"
    );
    let nine: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let mut nanoseconds: i64 = nine.parse()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        seconds = seconds.checked_sub(1).context("it is not a time")?;
        nanoseconds = 1_000_000_000 - nanoseconds;
    }
    Ok((seconds, nanoseconds))
}

fn map(value: &[u8]) -> Result<Vec<Extent>> {
    let numbers = value
        .split(|byte| *byte == b',')
        .map(number)
        .collect::<Result<Vec<_>>>()?;
    let (pairs, odd) = numbers.as_chunks::<2>();
    ensure!(odd.is_empty(), "it has an odd count of numbers");
    Ok(pairs
        .iter()
        .map(|[offset, len]| Extent {
            offset: *offset,
            len: *len,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_records_are_errors() {
        for data in [
            &b"x"[..],
            b"0 a=b\n",
            b"3 a=b\n",
            b"99 a=b\n",
            b"6 a=bX",
            b"6 abc\n",
            b"18446744073709551615 a=b\n",
            b"10 size=x\n",
        ] {
            assert!(parse(data).is_err(), "{:?}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn fractional_and_negative_times_are_read() {
        assert_eq!(time(b"1700000000.5").unwrap(), (1_700_000_000, 500_000_000));
        assert_eq!(time(b"7").unwrap(), (7, 0));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert!(time(b"now").is_err());
    }

    #[test]
    fn last_record_of_a_key_counts() {
        let mut pax = parse(b"10 path=a\n10 path=b\n").unwrap();
        assert_eq!(pax.take_path().unwrap(), b"b");
    }
}
