//! Indents JSON without decoding it, as it streams by.

/// Indents valid JSON fed in pieces, two spaces a level, as Go's `json.MarshalIndent` does.
#[derive(Debug, Default)]
pub struct Indenter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// An opening bracket was written and nothing since.
    opened: bool,
}

impl Indenter {
    /// Appends `json`, indented, to `out`.
    pub fn feed(&mut self, json: &[u8], out: &mut Vec<u8>) {
        for &byte in json {
            if self.in_string {
                self.feed_string(byte, out);
            } else {
                self.feed_structure(byte, out);
            }
        }
    }

    fn feed_string(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
        }
    }

    fn feed_structure(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b' ' | b'\n' | b'\t' | b'\r' => {}
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.opened) {
                    self.new_line(out);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                self.new_line(out);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                if std::mem::take(&mut self.opened) {
                    self.new_line(out);
                }
                out.push(byte);
                self.in_string = byte == b'"';
                if matches!(byte, b'{' | b'[') {
                    self.depth += 1;
                    self.opened = true;
                }
            }
        }
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

/// A whole document, indented.
pub fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    Indenter::default().feed(json, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indenting_equals_a_pretty_encoder() {
        let value = serde_json::json!({"a": [1, {"b": "x,\"{y}\\"}], "c": {}, "d": [], "e": null, "f": [[], [true]]});
        let want = serde_json::to_string_pretty(&value).expect("encodes");
        let json = value.to_string();
        assert_eq!(String::from_utf8(indented(json.as_bytes())).expect("text"), want);
        let (mut pieces, mut indenter) = (Vec::new(), Indenter::default());
        for byte in json.as_bytes() {
            indenter.feed(&[*byte], &mut pieces);
        }
        assert_eq!(pieces, want.as_bytes());
    }
}
