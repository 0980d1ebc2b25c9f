//! Ring in which v53 keeps output for a client that is missing or too slow
//! (`serial_buffer/src/lib.rs`).

use std::collections::VecDeque;
use std::io::Write;

/// `MAX_BUFFER_SIZE`.
const SIZE: usize = 1 << 20;

/// The newest bytes that were not sent.
#[derive(Default)]
pub(crate) struct Ring(VecDeque<u8>);

impl Ring {
    /// Keeps a byte, and drops the oldest when there is no room.
    pub(crate) fn keep(&mut self, byte: u8) {
        if self.0.len() == SIZE {
            self.0.pop_front();
        }
        self.0.push_back(byte);
    }

    /// Sends what it has, as far as the client takes it; whether nothing is left.
    pub(crate) fn flush(&mut self, client: &mut impl Write) -> bool {
        while let Some(&byte) = self.0.front() {
            if client.write_all(&[byte]).is_err() {
                return false;
            }
            self.0.pop_front();
        }
        true
    }
}
