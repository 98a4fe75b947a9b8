//! Event files for TensorBoard: a run per training, a scalar per number.
//!
//! A file is a row of records: length (64 bits), its checksum, the bytes, their checksum, all little-endian; a checksum is
//! CRC-32C, masked (`tensorflow/core/lib/io/record_writer.h`, `lib/hash/crc32c.h`). The bytes are a message `Event` of
//! `tensorflow/core/util/event.proto`, which holds a `Summary` of `framework/summary.proto`. Of these messages five fields
//! are needed, and they are written by hand here: a library for protocol buffers would be larger than this file.

use super::{File, Series, Span};

/// A training.
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder that TensorBoard calls it by: `train.adapter/n=80`.
    pub folder: String,
    /// When it was made.
    pub when: Span,
    /// Its curves.
    pub series: Vec<Series>,
}

/// A file of events per training.
pub fn files(runs: &[Run]) -> Vec<File> {
    let file = |run: &Run| {
        // TensorBoard takes files with `tfevents` in their names, and reads several of a folder in the order of theirs.
        #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
        let begin = run.when.begin as i64;
        File::new(format!("{}/events.out.tfevents.{begin:010}.titer", run.folder), events(run))
    };
    runs.iter().map(file).collect()
}

/// The events of a training, in the order of time.
fn events(run: &Run) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut version = Message::default();
    version.double(1, run.when.begin);
    version.bytes(3, b"brain.Event:2");
    record(&version.0, &mut bytes);
    let points = run.series.iter().flat_map(|series| series.points.iter().map(|point| (series.name.as_str(), point)));
    let mut points: Vec<_> = points.collect();
    points.sort_by(|(name, point), (other, next)| {
        point.time.total_cmp(&next.time).then(point.step.cmp(&next.step)).then(name.cmp(other))
    });
    for values in points.chunk_by(|(_, point), (_, next)| point.time == next.time && point.step == next.step) {
        let (_, moment) = values[0];
        let mut summary = Message::default();
        for (name, point) in values {
            let mut value = Message::default();
            value.bytes(1, name.as_bytes());
            value.float(2, point.value);
            summary.bytes(1, &value.0);
        }
        let mut event = Message::default();
        event.double(1, moment.time);
        event.varint(2, moment.step);
        event.bytes(5, &summary.0);
        record(&event.0, &mut bytes);
    }
    bytes
}

/// A message of protocol buffers (<https://protobuf.dev/programming-guides/encoding>): fields, each with its number and the
/// form of what follows.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, field: u8, value: u64) {
        self.0.push(field << 3);
        self.plain(value);
    }

    fn double(&mut self, field: u8, value: f64) {
        self.0.push(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.0.push(field << 3 | 2);
        self.plain(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn float(&mut self, field: u8, value: f64) {
        self.0.push(field << 3 | 5);
        #[expect(clippy::cast_possible_truncation, reason = "TensorBoard's scalars are single")]
        self.0.extend((value as f32).to_le_bytes());
    }

    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn plain(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

fn record(message: &[u8], bytes: &mut Vec<u8>) {
    let length = (message.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked(crc32c(&length)).to_le_bytes());
    bytes.extend(message);
    bytes.extend(masked(crc32c(message)).to_le_bytes());
}

/// Checksums that stand among what they are of are masked.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), a byte at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::super::Point;
    use super::*;

    #[test]
    fn checksums_are_castagnoli_s() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// What the `RecordWriter` and the messages of `tensorboard` 2.21.0 (PyPI) make of the same events.
    #[test]
    fn bytes_are_those_of_tensorboard_s_own_writer() {
        let point = |step, time, value| Point { step, time, value };
        let series = |name: &str, points: &[Point]| Series { name: name.into(), points: points.into() };
        let run = Run {
            folder: "train.a/n=1".into(),
            when: Span { begin: 1_700_000_000.25, seconds: 4.0 },
            series: vec![
                series("epoch", &[point(1, 1_700_000_001.25, 0.5)]),
                series("loss", &[point(1, 1_700_000_001.25, 2.75), point(300, 1_700_000_003.25, -0.1)]),
            ],
        };
        let [file] = &files(&[run])[..] else { panic!("one file") };
        assert_eq!(file.path, "train.a/n=1/events.out.tfevents.1700000000.titer");
        let hex: String = file.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN.concat());
    }

    const GOLDEN: &[&str] = &[
        "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe92800000000000000",
        "ff70164a0900005040fc54d94110012a1b0a0c0a0565706f6368150000003f0a0b0a046c6f737315000030407e3dc9a0",
        "1b000000000000001a0d9e13090000d040fc54d94110ac022a0d0a0b0a046c6f737315cdccccbd529aeafc",
    ];
}
