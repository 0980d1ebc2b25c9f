//! The keys that leave a guest alone again, as docker's `--detach-keys`.

/// A sequence of keys, and how much of it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// The sequence that `ctrl-p,ctrl-q` and the like name: `ctrl-` with a letter or one of
    /// `@[\]^_`, or one character, between commas.
    pub(crate) fn parse(text: &str) -> Result<DetachKeys, String> {
        let keys = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        let keys = keys.ok_or_else(|| "give keys like ctrl-p,ctrl-q or ctrl-]".to_owned())?;
        Ok(DetachKeys { keys, typed: 0 })
    }

    /// The sequence, as [`DetachKeys::parse`] reads it.
    pub(crate) fn shown(&self) -> String {
        let name = |key: &u8| match key {
            1..=26 => format!("ctrl-{}", char::from(key - 1 + b'a')),
            0..=31 => format!("ctrl-{}", char::from(key + b'@')),
            key => char::from(*key).to_string(),
        };
        self.keys.iter().map(name).collect::<Vec<_>>().join(",")
    }

    /// Takes the sequence out of what was typed, with all that comes after it; whether it was
    /// there. A beginning of it is kept back until it is known to be none.
    pub(crate) fn take_out(&mut self, typed: &mut Vec<u8>) -> bool {
        let mut passed = Vec::with_capacity(typed.len());
        for key in std::mem::take(typed) {
            while self.typed > 0 && key != self.keys[self.typed] {
                // The longest end of what was typed that begins the sequence as well goes on.
                let held = &self.keys[..self.typed];
                let kept =
                    (0..self.typed).rev().find(|kept| held.ends_with(&self.keys[..*kept])).unwrap_or(0);
                passed.extend(&held[..self.typed - kept]);
                self.typed = kept;
            }
            if key != self.keys[self.typed] {
                passed.push(key);
                continue;
            }
            self.typed += 1;
            if self.typed == self.keys.len() {
                self.typed = 0;
                *typed = passed;
                return true;
            }
        }
        *typed = passed;
        false
    }
}

fn key(name: &str) -> Option<u8> {
    match (name.strip_prefix("ctrl-").map(str::as_bytes), name.as_bytes()) {
        (Some([letter @ b'a'..=b'z']), _) => Some(letter - b'a' + 1),
        (Some([symbol @ (b'@' | b'['..=b'_')]), _) => Some(symbol - b'@'),
        (None, [key]) => Some(*key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_names_of_keys_are_understood() {
        for (text, keys) in [("ctrl-p,ctrl-q", &[16, 17][..]), ("ctrl-]", &[29]), ("ctrl-@,x", &[0, b'x'])] {
            assert_eq!(DetachKeys::parse(text).unwrap().keys, keys);
        }
        for text in ["", "ctrl-", "ctrl-1", "ctrl-P", "esc", "a,,b"] {
            assert!(DetachKeys::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_but_the_sequence_passes_however_it_is_cut() {
        let table: [(&str, &str, &str, bool); 8] = [
            ("x,y", "abc", "abc", false),
            ("x,y", "axyb", "a", true),
            ("x,y", "axxyb", "ax", true),
            ("x,y", "axbxy", "axb", true),
            ("x,x,y", "axxxyb", "ax", true),
            ("x,y,x,z", "xyxyxz", "xy", true),
            ("x", "abxc", "ab", true),
            ("x,y", "ax", "a", false),
        ];
        for (sequence, typed, passed, found) in table {
            for chunk in 1..=typed.len() {
                let mut keys = DetachKeys::parse(sequence).unwrap();
                let mut seen = Vec::new();
                let is_found = typed.as_bytes().chunks(chunk).any(|chunk| {
                    let mut typed = chunk.to_vec();
                    let found = keys.take_out(&mut typed);
                    seen.extend(typed);
                    found
                });
                assert_eq!((std::str::from_utf8(&seen).unwrap(), is_found), (passed, found), "{typed}");
            }
        }
    }
}
