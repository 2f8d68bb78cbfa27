//! Bearer tokens that a file lists (`--token-auth-file`): lines of `token,user,uid,"group1,group2"`, as upstream reads them.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{Authenticator, Credentials, TokenOwner};
use crate::{service::UserInfo, status::Status};

/// Why a file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("parse error on line {0}, column {1}: {2}")]
    Syntax(usize, usize, &'static str),
    #[error("token file '{0}' must have at least 3 columns (token, user name, user uid), found {1}")]
    Columns(PathBuf, usize),
}

/// The holders of the tokens of a file. Of the tokens themselves only hashes are kept.
pub struct TokenFile {
    holders: HashMap<[u8; 32], UserInfo>,
    /// The API server's own audiences, which such tokens are for.
    audiences: Vec<String>,
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile").field("tokens", &self.holders.len()).finish_non_exhaustive()
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line has too little.
    pub fn open(path: &Path, audiences: Vec<String>) -> Result<Self, TokenFileError> {
        let text = std::fs::read_to_string(path).map_err(|error| TokenFileError::Read(path.to_owned(), error))?;
        let mut holders = HashMap::new();
        for (number, record) in records(&text)?.into_iter().enumerate() {
            let [token, name, uid, rest @ ..] = record.as_slice() else { return Err(TokenFileError::Columns(path.to_owned(), record.len())) };
            let file = path.display();
            if token.is_empty() {
                tracing::warn!(%file, record = number + 1, "an empty token is left out");
                continue;
            }
            let groups = rest.first().into_iter().flat_map(|groups| groups.split(',')).map(str::to_owned).collect();
            let user = UserInfo { name: name.clone(), uid: uid.clone(), groups, ..UserInfo::default() };
            if holders.insert(hash(token), user).is_some() {
                tracing::warn!(%file, record = number + 1, "a token is there twice; the last one counts");
            }
        }
        Ok(TokenFile { holders, audiences })
    }

    fn holder(&self, token: &str) -> Option<UserInfo> {
        self.holders.get(&hash(token)).cloned()
    }
}

impl Authenticator for TokenFile {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        Ok(credentials.bearer.and_then(|token| self.holder(token)))
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        let Some(user) = self.holder(token) else { return Ok(None) };
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let audiences: Vec<String> = wanted.iter().filter(|audience| self.audiences.contains(audience)).cloned().collect();
        Ok((!audiences.is_empty()).then_some(TokenOwner { user, audiences }))
    }
}

/// The records of comma-separated text (RFC 4180). Empty lines are none; quoted fields may hold commas, line breaks and doubled quotes.
fn records(text: &str) -> Result<Vec<Vec<String>>, TokenFileError> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut column, mut begins) = (1, 0, true);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        column += 1;
        match character {
            '"' if begins => {
                field = quoted(&mut characters, &mut line, &mut column)?;
                begins = false;
                if !matches!(characters.peek(), None | Some(',' | '\n' | '\r')) {
                    return Err(TokenFileError::Syntax(line, column, "extraneous or missing \" in quoted-field"));
                }
            }
            '"' => return Err(TokenFileError::Syntax(line, column, "bare \" in non-quoted field")),
            ',' => {
                record.push(std::mem::take(&mut field));
                begins = true;
            }
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' => {
                if !(record.is_empty() && begins) {
                    record.push(std::mem::take(&mut field));
                    records.push(std::mem::take(&mut record));
                }
                (line, column, begins) = (line + 1, 0, true);
            }
            other => {
                field.push(other);
                begins = false;
            }
        }
    }
    if !(record.is_empty() && begins) {
        record.push(field);
        records.push(record);
    }
    Ok(records)
}

/// What stands between quotes; the first one is read already.
fn quoted(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, line: &mut usize, column: &mut usize) -> Result<String, TokenFileError> {
    let mut field = String::new();
    while let Some(character) = characters.next() {
        *column += 1;
        match character {
            '"' if characters.next_if_eq(&'"').is_some() => {
                *column += 1;
                field.push('"');
            }
            '"' => return Ok(field),
            '\n' => {
                (*line, *column) = (*line + 1, 0);
                field.push('\n');
            }
            other => field.push(other),
        }
    }
    Err(TokenFileError::Syntax(*line, *column, "extraneous or missing \" in quoted-field"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<TokenFile, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tokens.csv");
        std::fs::write(&path, text).expect("writes");
        TokenFile::open(&path, vec!["api".into()]).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    fn user(file: &TokenFile, token: &str) -> Option<UserInfo> {
        file.authenticate(&Credentials { bearer: Some(token), ..Credentials::default() }).expect("no opinion at worst")
    }

    #[test]
    fn each_token_has_a_holder_with_uid_and_groups() {
        let file = file("t1,ann,u1,\"dev,ops\"\r\n\nt2,bob,u2\n,nobody,u3\n\"t,3\",\"c \"\"d\"\"\",u4,one\nt2,ben,u5").expect("reads");
        let groups = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let told = |token: &str| user(&file, token).map(|user| (user.name, user.uid, user.groups));
        assert_eq!(told("t1"), Some(("ann".into(), "u1".into(), groups(&["dev", "ops"]))));
        assert_eq!(told("t2"), Some(("ben".into(), "u5".into(), groups(&[]))), "the last one counts");
        assert_eq!(told("t,3"), Some(("c \"d\"".into(), "u4".into(), groups(&["one"]))));
        assert_eq!((told(""), told("t3")), (None, None));
        assert_eq!(format!("{file:?}"), "TokenFile { tokens: 3, .. }");
        let review = |audiences: &[&str]| file.review_token("t1", &groups(audiences)).expect("no fault").map(|owner| owner.audiences);
        assert_eq!((review(&[]), review(&["other", "api"]), review(&["other"])), (Some(groups(&["api"])), Some(groups(&["api"])), None));
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused() {
        for (text, why) in [
            ("t,ann", "token file 'FILE' must have at least 3 columns (token, user name, user uid), found 2"),
            ("t,a\"nn,u", "parse error on line 1, column 4: bare \" in non-quoted field"),
            ("t,ann,u\nt,\"ann\"x,u", "parse error on line 2, column 7: extraneous or missing \" in quoted-field"),
            ("t,ann,\"u", "parse error on line 1, column 8: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(file(text).expect_err(text), why);
        }
    }
}
