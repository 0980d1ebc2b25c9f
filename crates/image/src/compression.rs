//! How a stream is compressed, told by its first bytes, whatever its media type or name says.

use std::io::{Cursor, Read};

use crate::limits::{DECOMPRESSOR, ZSTD_WINDOW};

/// Longest of the marks below, in bytes.
const MARK: u64 = 6;

/// Decompresses a stream; one that is not compressed is passed on as it is.
///
/// # Errors
/// When it cannot be read, or is damaged.
pub fn decompressed<'a>(mut reader: impl Read + Send + 'a) -> std::io::Result<Box<dyn Read + Send + 'a>> {
    let mut mark = Vec::new();
    (&mut reader).take(MARK).read_to_end(&mut mark)?;
    let kind = mark.clone();
    let whole = Cursor::new(mark).chain(reader);
    Ok(match &kind[..] {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        // A frame, or one that is skipped and may stand before it (RFC 8878, 3.1.1 and 3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::new(whole)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(DECOMPRESSOR, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(whole, stream))
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(bzip2::read::MultiBzDecoder::new(whole)),
        _ => Box::new(whole),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        decompressed(bytes)?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn every_compression_is_told_by_its_first_bytes() {
        let text = b"some text ".repeat(1000);
        let gzip = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = zstd::encode_all(&text[..], 1).unwrap();
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], &zstd[..]].concat();
        let xz = {
            let mut encoder = liblzma::read::XzEncoder::new(&text[..], 1);
            let mut bytes = Vec::new();
            encoder.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let bzip2 = {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        };
        for (name, bytes) in [
            ("plain", text.clone()),
            ("gzip", gzip),
            ("zstd", zstd),
            ("skipped", skipped),
            ("xz", xz),
            ("bzip2", bzip2),
        ] {
            assert!(read(&bytes).unwrap() == text, "{name}");
            assert!(name == "plain" || read(&bytes[..bytes.len() / 2]).is_err(), "{name}, cut");
            assert!(
                name == "plain" || read(&[&bytes[..], &bytes[..]].concat()).unwrap().len() == 2 * text.len(),
                "{name}, two of them"
            );
        }
        assert_eq!(read(b"").unwrap(), b"");
    }
}
