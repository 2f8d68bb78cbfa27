//! `Warning` headers: upstream's form, and no more than clients take.

use actix_web::{
    HttpResponse,
    http::header::{HeaderName, HeaderValue},
};

/// Characters of all warnings together; with more each of them is cut.
const MOST: usize = 4 << 10;
/// Characters of one warning that is cut.
const SHORT: usize = 256;

/// Appends `Warning: 299` headers.
pub fn add(response: &mut HttpResponse, warnings: &[String]) {
    for text in fitted(warnings) {
        let clean: String = text.chars().filter(|character| !character.is_control()).collect();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        // Text that no header can carry is dropped, as upstream does.
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
}

/// All warnings where they are not too much together; else the beginnings of as many as there is room for.
fn fitted(warnings: &[String]) -> Vec<&str> {
    let length = |text: &str| text.chars().count();
    if warnings.iter().map(|text| length(text)).sum::<usize>() <= MOST {
        return warnings.iter().map(String::as_str).collect();
    }
    let mut room = MOST;
    let mut fitted = Vec::new();
    for text in warnings.iter().filter(|text| !text.is_empty()) {
        if room == 0 {
            break;
        }
        let short = text.char_indices().nth(SHORT).map_or(text.as_str(), |(end, _)| &text[..end]);
        room = room.saturating_sub(length(short));
        fitted.push(short);
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_warnings_are_cut_and_then_left_out() {
        let some: Vec<String> = vec!["a".repeat(4000), "b".to_owned()];
        assert_eq!(fitted(&some), ["a".repeat(4000).as_str(), "b"]);
        let many: Vec<String> = (0..100).map(|n| format!("{n:03}{}", "\u{e4}".repeat(300))).collect();
        let cut = fitted(&many);
        assert_eq!((cut.len(), cut[0].chars().count()), (16, 256));
        assert!(cut[15].starts_with("015"));
    }

    #[test]
    fn quotes_and_control_characters_do_not_end_a_header() {
        let mut response = HttpResponse::Ok().finish();
        add(&mut response, &["say \"x\"\r\nSet-Cookie: y\\".to_owned()]);
        let value = response.headers().get("warning").expect("one warning").as_bytes();
        assert_eq!(value, br#"299 - "say \"x\"Set-Cookie: y\\""#);
    }
}
