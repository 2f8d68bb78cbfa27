//! `Warning` headers: upstream's form, and no more than clients take.

use std::collections::HashSet;

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
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
}

/// The warnings that are told, each once (upstream's `WithWarningRecorder`): whole as long as they are not too much together, from there
/// on all by their beginnings, as far as there is room. One with control characters no header can carry; it is left out.
fn fitted(warnings: &[String]) -> Vec<&str> {
    let mut fitted = Fitted { told: Vec::new(), written: 0 };
    let (mut seen, mut ordered, mut cuts) = (HashSet::new(), Vec::new(), false);
    for text in warnings.iter().map(String::as_str).filter(|text| !text.is_empty()) {
        if cuts && fitted.written >= MOST {
            break;
        }
        if !seen.insert(text) {
            continue;
        }
        ordered.push(text);
        if cuts {
            fitted.take(beginning(text));
        } else if !is_carried(text) || fitted.written + length(text) <= MOST {
            fitted.take(text);
        } else {
            cuts = true;
            fitted = Fitted { told: Vec::new(), written: 0 };
            for text in ordered.iter().copied() {
                fitted.take(beginning(text));
            }
        }
    }
    fitted.told
}

/// What is told so far, and how many characters that is.
struct Fitted<'a> {
    told: Vec<&'a str>,
    written: usize,
}

impl<'a> Fitted<'a> {
    fn take(&mut self, text: &'a str) {
        if is_carried(text) {
            self.written += length(text);
            self.told.push(text);
        }
    }
}

fn is_carried(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn beginning(text: &str) -> &str {
    text.char_indices().nth(SHORT).map_or(text, |(end, _)| &text[..end])
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
    fn what_no_header_can_carry_is_left_out_until_it_is_cut() {
        let some = ["a", "b\nc", "", "a", "d\u{7f}"].map(str::to_owned);
        assert_eq!(fitted(&some), ["a"]);
        let late = format!("{}\n{}", "l".repeat(300), "m".repeat(9000));
        assert_eq!(fitted(&[late.clone(), "b".repeat(4097)]), ["l".repeat(256), "b".repeat(256)]);
        assert_eq!(fitted(&[late, "b".to_owned()]), ["b"]);
    }

    #[test]
    fn quotes_do_not_end_a_text() {
        let mut response = HttpResponse::Ok().finish();
        add(&mut response, &["say \"x\" y\\".to_owned(), "x\r\nSet-Cookie: y".to_owned()]);
        let values: Vec<_> = response.headers().get_all("warning").map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [br#"299 - "say \"x\" y\\""#]);
    }
}
