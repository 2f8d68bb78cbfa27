//! Escapes in quoted texts.

/// The bytes that a quoted text stands for.
///
/// # Errors
/// What is no escape.
pub fn unescape(content: &str, is_raw: bool, is_bytes: bool) -> Result<Vec<u8>, String> {
    if is_raw || !content.contains('\\') {
        return Ok(content.replace("\r\n", "\n").into_bytes());
    }
    let mut out = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        let taken = escape(after, is_bytes, &mut out).ok_or("Syntax error: invalid escape sequence in string literal")?;
        rest = &after[taken..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Writes what an escape stands for; returns its length without the backslash.
fn escape(after: &str, is_bytes: bool, out: &mut Vec<u8>) -> Option<usize> {
    let first = after.chars().next()?;
    let simple = match first {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' | '\'' | '"' | '`' | '?' => Some(first as u8),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Some(1);
    }
    let (digits, radix, skip) = match first {
        'x' | 'X' => (2, 16, 1),
        'u' if !is_bytes => (4, 16, 1),
        'U' if !is_bytes => (8, 16, 1),
        '0'..='3' => (3, 8, 0),
        _ => return None,
    };
    let text = after.get(skip..skip + digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let code = u32::from_str_radix(text, radix).ok()?;
    if is_bytes {
        out.push(u8::try_from(code).ok()?);
    } else {
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(skip + digits)
}
