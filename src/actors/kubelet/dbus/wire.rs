//! Messages of D-Bus as they lie on the wire ([specification](https://dbus.freedesktop.org/doc/dbus-specification.html)), as far as calls with
//! texts and numbers, their answers, and signals need it. Pure.

/// A message's first bytes, which tell how long it is.
pub const HEAD: usize = 16;
/// A message that is longer is not taken.
const LONGEST: usize = 1 << 20;

pub const METHOD_CALL: u8 = 1;
#[cfg(test)]
pub const METHOD_RETURN: u8 = 2;
pub const ERROR: u8 = 3;
pub const SIGNAL: u8 = 4;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;
const UNIX_FDS: u8 = 9;

/// What is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

/// An argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg<'a> {
    Text(&'a str),
    Int32(i32),
    Flag(bool),
    /// Names with values.
    Properties(&'a [Property<'a>]),
    /// Further units with properties of their own, of which there are none.
    NoUnits,
}

/// A name with its value.
pub type Property<'a> = (&'a str, Variant<'a>);

/// A value that tells its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant<'a> {
    Text(&'a str),
    /// A list of one text.
    Texts(&'a str),
    Flag(bool),
    Long(u64),
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub args: &'a [Arg<'a>],
}

/// A message that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub kind: u8,
    pub serial: u32,
    pub reply_to: Option<u32>,
    pub path: String,
    pub interface: String,
    pub member: String,
    pub error: String,
    pub signature: String,
    /// How many descriptors came with it.
    pub descriptors: usize,
    pub is_big_endian: bool,
    pub body: Vec<u8>,
}

/// Bytes with values at multiples of their sizes.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn long(&mut self, number: u64) {
        self.align(8);
        self.0.extend(number.to_le_bytes());
    }

    /// A list, whose length counts from its first item on, which lies at a multiple of `to`.
    fn list(&mut self, to: usize, items: impl FnOnce(&mut Self)) {
        self.number(0);
        let length = self.0.len() - 4;
        self.align(to);
        let first = self.0.len();
        items(self);
        let taken = u32::try_from(self.0.len() - first).unwrap_or(u32::MAX);
        self.0[length..length + 4].copy_from_slice(&taken.to_le_bytes());
    }

    fn variant(&mut self, value: Variant<'_>) {
        match value {
            Variant::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Variant::Texts(text) => {
                self.signature("as");
                self.list(4, |list| list.text(text));
            }
            Variant::Flag(holds) => {
                self.signature("b");
                self.number(u32::from(holds));
            }
            Variant::Long(number) => {
                self.signature("t");
                self.long(number);
            }
        }
    }

    fn properties(&mut self, properties: &[Property<'_>]) {
        self.list(8, |list| {
            for (name, value) in properties {
                list.align(8);
                list.text(name);
                list.variant(*value);
            }
        });
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }
}

/// A call as bytes.
pub fn encode(serial: u32, call: &Call<'_>) -> Vec<u8> {
    let (mut body, mut signature) = (Writer::default(), String::new());
    for arg in call.args {
        match arg {
            Arg::Text(text) => {
                signature.push('s');
                body.text(text);
            }
            Arg::Int32(number) => {
                signature.push('i');
                body.number(number.cast_unsigned());
            }
            Arg::Flag(holds) => {
                signature.push('b');
                body.number(u32::from(*holds));
            }
            Arg::Properties(properties) => {
                signature.push_str("a(sv)");
                body.properties(properties);
            }
            Arg::NoUnits => {
                signature.push_str("a(sa(sv))");
                body.list(8, |_| {});
            }
        }
    }
    let mut fields = vec![(PATH, "o", call.path), (INTERFACE, "s", call.interface), (MEMBER, "s", call.member), (DESTINATION, "s", call.destination)];
    if !signature.is_empty() {
        fields.push((SIGNATURE, "g", signature.as_str()));
    }
    framed(METHOD_CALL, serial, &fields, &[], &body.0)
}

/// A message of these fields: texts by their types, and numbers.
fn framed(kind: u8, serial: u32, texts: &[(u8, &str, &str)], numbers: &[(u8, u32)], body: &[u8]) -> Vec<u8> {
    let mut message = Writer(vec![b'l', kind, 0, 1]);
    message.number(u32::try_from(body.len()).unwrap_or(u32::MAX));
    message.number(serial);
    message.number(0);
    for (code, shape, text) in texts {
        message.align(8);
        message.0.push(*code);
        message.signature(shape);
        if *shape == "g" { message.signature(text) } else { message.text(text) }
    }
    for (code, number) in numbers {
        message.align(8);
        message.0.push(*code);
        message.signature("u");
        message.number(*number);
    }
    let fields = u32::try_from(message.0.len() - HEAD).unwrap_or(u32::MAX);
    message.0[HEAD - 4..HEAD].copy_from_slice(&fields.to_le_bytes());
    message.align(8);
    message.0.extend(body);
    message.0
}

/// Reads bytes in order.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big_endian: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or(Malformed("it ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), Malformed> {
        let pad = self.at.next_multiple_of(to) - self.at;
        self.take(pad).map(drop)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| Malformed("it ends too early"))?;
        Ok(if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn long(&mut self) -> Result<u64, Malformed> {
        self.align(8)?;
        let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| Malformed("it ends too early"))?;
        Ok(if self.is_big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let length = self.number()? as usize;
        self.words(length)
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let length = usize::from(self.byte()?);
        self.words(length)
    }

    fn words(&mut self, length: usize) -> Result<String, Malformed> {
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))?.to_owned();
        self.take(1)?;
        Ok(text)
    }
}

/// How long the message is that begins so; its fixed part is needed.
///
/// # Errors
/// When it is none, or too long.
pub fn length(head: &[u8]) -> Result<usize, Malformed> {
    let mut reader = begun(head)?;
    reader.at = 4;
    let body = reader.number()? as usize;
    reader.at = 12;
    let fields = reader.number()? as usize;
    let all = HEAD.checked_add(fields).map(|end| end.next_multiple_of(8)).and_then(|end| end.checked_add(body));
    all.filter(|all| *all <= LONGEST).ok_or(Malformed("it is too long"))
}

fn begun(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    let is_big_endian = match bytes.first() {
        Some(b'l') => false,
        Some(b'B') => true,
        _ => return Err(Malformed("it has no order of bytes")),
    };
    Ok(Reader { bytes, at: 0, is_big_endian })
}

/// Reads a whole message.
///
/// # Errors
/// When it is none.
pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut reader = begun(bytes)?;
    let mut message = Message { is_big_endian: reader.is_big_endian, ..Message::default() };
    reader.at = 1;
    message.kind = reader.byte()?;
    reader.at = 8;
    message.serial = reader.number()?;
    let fields = reader.number()? as usize;
    let end = HEAD.checked_add(fields).ok_or(Malformed("it is too long"))?;
    while reader.at < end {
        reader.align(8)?;
        let (code, shape) = (reader.byte()?, reader.signature()?);
        match shape.as_str() {
            "s" | "o" => message.take_text(code, reader.text()?),
            "g" => message.take_text(code, reader.signature()?),
            "u" => message.take_number(code, reader.number()?),
            _ => return Err(Malformed("a field has another type")),
        }
    }
    reader.align(8)?;
    message.body = bytes[reader.at..].to_vec();
    Ok(message)
}

impl Message {
    fn take_text(&mut self, code: u8, text: String) {
        match code {
            PATH => self.path = text,
            INTERFACE => self.interface = text,
            MEMBER => self.member = text,
            ERROR_NAME => self.error = text,
            SIGNATURE => self.signature = text,
            _ => {}
        }
    }

    fn take_number(&mut self, code: u8, number: u32) {
        match code {
            REPLY_SERIAL => self.reply_to = Some(number),
            UNIX_FDS => self.descriptors = number as usize,
            _ => {}
        }
    }

    fn reader(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, is_big_endian: self.is_big_endian }
    }

    /// Its first argument as a truth.
    pub fn flag(&self) -> Option<bool> {
        let number = self.reader().number().ok().filter(|_| self.signature.starts_with('b'))?;
        Some(number != 0)
    }

    /// Its first argument as a text.
    pub fn text(&self) -> Option<String> {
        self.reader().text().ok().filter(|_| self.signature.starts_with('s'))
    }

    /// Its first argument as the path of an object.
    pub fn object(&self) -> Option<String> {
        self.reader().text().ok().filter(|_| self.signature.starts_with('o'))
    }

    /// The path of a job that ended, and how, of systemd's signal for that.
    pub fn ended_job(&self) -> Option<(String, String)> {
        let mut reader = self.reader();
        reader.number().ok().filter(|_| self.signature == "uoss")?;
        let (job, _unit, result) = (reader.text().ok()?, reader.text().ok()?, reader.text().ok()?);
        Some((job, result))
    }

    /// Its first argument, a property, as a number of 64 bits.
    pub fn property(&self) -> Option<u64> {
        let mut reader = self.reader();
        let shape = reader.signature().ok()?;
        (self.signature == "v" && shape == "t").then(|| reader.long().ok())?
    }

    /// Which of its descriptors its first argument is.
    pub fn descriptor(&self) -> Option<usize> {
        let number = self.reader().number().ok()?;
        (self.signature == "h").then_some(number as usize)
    }
}

#[cfg(test)]
pub mod testing {
    use super::{ERROR, ERROR_NAME, INTERFACE, MEMBER, METHOD_RETURN, PATH, REPLY_SERIAL, SIGNAL, SIGNATURE, UNIX_FDS, Writer, framed};

    /// The answer to a call, with a body of this signature.
    pub fn answer(to: u32, signature: &str, body: &[u8], descriptors: u32) -> Vec<u8> {
        let texts: &[(u8, &str, &str)] = if signature.is_empty() { &[] } else { &[(SIGNATURE, "g", signature)] };
        framed(METHOD_RETURN, 7, texts, &[(REPLY_SERIAL, to), (UNIX_FDS, descriptors)], body)
    }

    /// A signal with a truth.
    pub fn signal(path: &str, interface: &str, member: &str, holds: bool) -> Vec<u8> {
        let texts = [(PATH, "o", path), (INTERFACE, "s", interface), (MEMBER, "s", member), (SIGNATURE, "g", "b")];
        framed(SIGNAL, 8, &texts, &[], &u32::from(holds).to_le_bytes())
    }

    /// A signal of systemd's that a job ended.
    pub fn ended_job(job: &str, unit: &str, result: &str) -> Vec<u8> {
        let texts = [
            (PATH, "o", "/org/freedesktop/systemd1"),
            (INTERFACE, "s", "org.freedesktop.systemd1.Manager"),
            (MEMBER, "s", "JobRemoved"),
            (SIGNATURE, "g", "uoss"),
        ];
        let mut body = Writer::default();
        body.number(7);
        [job, unit, result].iter().for_each(|text| body.text(text));
        framed(SIGNAL, 9, &texts, &[], &body.0)
    }

    /// The path of an object as a body.
    pub fn object(path: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.text(path);
        body.0
    }

    /// An error as an answer, without words.
    pub fn error(to: u32, name: &str) -> Vec<u8> {
        framed(ERROR, 10, &[(ERROR_NAME, "s", name)], &[(REPLY_SERIAL, to)], &[])
    }

    /// A property of 64 bits as a body.
    pub fn property(number: u64) -> Vec<u8> {
        let mut body = Writer::default();
        body.signature("t");
        body.align(8);
        body.0.extend(number.to_le_bytes());
        body.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_lies_on_the_wire_as_the_specification_says() {
        let call = Call { destination: "d", path: "/p", interface: "i.f", member: "M", args: &[Arg::Text("ab"), Arg::Int32(-1)] };
        let bytes = encode(3, &call);
        assert_eq!(&bytes[..16], [b'l', 1, 0, 1, 12, 0, 0, 0, 3, 0, 0, 0, bytes[12], 0, 0, 0]);
        assert_eq!(&bytes[16..27], [1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'p', 0]);
        assert_eq!(length(&bytes[..16]), Ok(bytes.len()));
        assert_eq!(&bytes[bytes.len() - 12..], [2, 0, 0, 0, b'a', b'b', 0, 0, 255, 255, 255, 255]);
        let back = decode(&bytes).expect("a message");
        assert_eq!((back.kind, back.serial, back.path.as_str(), back.member.as_str()), (METHOD_CALL, 3, "/p", "M"));
        assert_eq!((back.signature.as_str(), back.text().as_deref(), back.flag()), ("si", Some("ab"), None));
    }

    #[test]
    fn properties_lie_at_multiples_of_eight_and_tell_their_types() {
        let properties = [("A", Variant::Long(5)), ("Bc", Variant::Texts("u.slice")), ("D", Variant::Flag(true))];
        let args = [Arg::Flag(true), Arg::Properties(&properties), Arg::NoUnits];
        let back = decode(&encode(3, &Call { destination: "d", path: "/p", interface: "i.f", member: "M", args: &args })).expect("a message");
        assert_eq!(back.signature, "ba(sv)a(sa(sv))");
        let mut body = vec![1, 0, 0, 0, 72, 0, 0, 0];
        // "A", "t", 5.
        body.extend([1, 0, 0, 0, b'A', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        // "Bc", "as", 12 bytes of texts: one of 7.
        body.extend([2, 0, 0, 0, b'B', b'c', 0, 2, b'a', b's', 0, 0, 12, 0, 0, 0, 7, 0, 0, 0]);
        body.extend(b"u.slice\0");
        body.extend([0, 0, 0, 0]);
        // "D", "b", true.
        body.extend([1, 0, 0, 0, b'D', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0]);
        body.extend([0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(back.body, body);
    }

    #[test]
    fn the_end_of_a_job_is_read() {
        let ended = decode(&testing::ended_job("/j/1", "a.slice", "done")).expect("a message");
        assert_eq!(ended.ended_job(), Some(("/j/1".to_owned(), "done".to_owned())));
        assert_eq!(decode(&testing::answer(5, "o", &testing::object("/j/1"), 0)).expect("a message").object().as_deref(), Some("/j/1"));
        assert_eq!(decode(&testing::signal("/p", "i", "M", true)).expect("a message").ended_job(), None);
    }

    #[test]
    fn answers_and_signals_are_read() {
        let answer = decode(&testing::answer(5, "v", &testing::property(30_000_000), 0)).expect("a message");
        assert_eq!((answer.kind, answer.reply_to, answer.property()), (METHOD_RETURN, Some(5), Some(30_000_000)));
        let lock = decode(&testing::answer(6, "h", &[0, 0, 0, 0], 1)).expect("a message");
        assert_eq!((lock.descriptor(), lock.descriptors), (Some(0), 1));
        let signal = decode(&testing::signal("/p", "i", "PrepareForShutdown", true)).expect("a message");
        assert_eq!((signal.kind, signal.interface.as_str(), signal.flag()), (SIGNAL, "i", Some(true)));
    }

    #[test]
    fn what_is_cut_off_or_made_up_is_no_message() {
        let whole = testing::signal("/p", "i", "M", true);
        for cut in 0..whole.len() - 8 {
            assert!(decode(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(length(&[b'x'; 16]).is_err());
        let mut long = whole;
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(length(&long), Err(Malformed("it is too long")));
    }
}
