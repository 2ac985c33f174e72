//! Decompression by content: plain, gzip or zstd, whatever the file's name says.
//!
//! Both decoders are pure Rust and stream with bounded memory: gzip members and zstd frames may
//! follow each other (zstd:chunked layers are many frames with skippable ones between), and a zstd
//! window larger than 100 MiB is refused. How much may come out is bounded by the reader on top.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// Looks at the first bytes of a stream: RFC 1952 2.3.1, RFC 8878 3.1.
    pub(super) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first.
            [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50 => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

type Peeked<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// A stream, decompressed.
pub(super) enum Decoder<R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<MultiGzDecoder<Peeked<R>>>),
    Zstd(Box<ZstdFrames<Peeked<R>>>),
}

impl<R: Read> Decoder<R> {
    pub(super) fn new(mut inner: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(4);
        inner.by_ref().take(4).read_to_end(&mut start)?;
        let compression = Compression::of(&start);
        let stream = BufReader::with_capacity(128 << 10, Cursor::new(start).chain(inner));
        Ok(match compression {
            Compression::Plain => Self::Plain(stream),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(stream))),
            Compression::Zstd => Self::Zstd(Box::new(ZstdFrames::new(stream))),
        })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Gzip(stream) => stream.read(buffer).map_err(|error| named("gzip", &error)),
            Self::Zstd(stream) => stream.read(buffer).map_err(|error| named("zstd", &error)),
        }
    }
}

fn named(format: &str, error: &io::Error) -> io::Error {
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("the {format} stream is truncated"),
        _ => format!("the {format} stream is damaged: {error}"),
    };
    io::Error::new(error.kind(), what)
}

/// The frames of a zstd stream, one after the other.
pub(super) struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            decoder: FrameDecoder::new(),
            in_frame: false,
        }
    }

    /// Starts the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped =
                        io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    /// The decoder wraps an early end of its source in errors of its own.
    fn explain(&mut self, error: FrameDecoderError) -> io::Error {
        match self.source.fill_buf() {
            Ok([]) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => io::Error::other(error),
            Err(source) => source,
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                if let Err(error) = self.decoder.decode_blocks(&mut self.source, UptoBlocks(1)) {
                    return Err(self.explain(error));
                }
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{gzip, zstd};
    use super::*;

    fn decode(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decoder::new(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn noise() -> Vec<u8> {
        let mut state = 1u32;
        (0..300_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                u8::try_from(state >> 28).unwrap()
            })
            .collect()
    }

    #[test]
    fn each_compression_is_found_by_content() {
        let data = noise();
        assert_eq!(decode(&data).unwrap(), data);
        assert_eq!(decode(&gzip(&data)).unwrap(), data);
        assert_eq!(decode(&zstd(&data)).unwrap(), data);
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn gzip_members_and_zstd_frames_are_joined() {
        let data = noise();
        let twice = [data.clone(), data.clone()].concat();
        assert_eq!(decode(&[gzip(&data), gzip(&data)].concat()).unwrap(), twice);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [skippable.clone(), zstd(&data), skippable, zstd(&data)].concat();
        assert_eq!(decode(&frames).unwrap(), twice);
    }

    #[test]
    fn truncated_streams_are_named_as_such() {
        let data = noise();
        for (name, whole) in [("gzip", gzip(&data)), ("zstd", zstd(&data))] {
            let error = decode(&whole[..whole.len() / 2]).unwrap_err();
            assert_eq!(error.to_string(), format!("the {name} stream is truncated"));
        }
    }
}
