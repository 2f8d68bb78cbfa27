//! The ciphers, with upstream's layout of nonces and padding.

use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, block_padding::Pkcs7};
use aes_gcm::{
    AeadInPlace, Aes128Gcm, Aes256Gcm, AesGcm, KeyInit, Nonce,
    aead::{Aead, consts::U12},
};
use bytes::Bytes;
use crypto_secretbox::XSalsa20Poly1305;
use rand::RngCore;

/// A value that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub value: Bytes,
    /// It was sealed otherwise than it would be now: a write of the same object seals it anew.
    pub stale: bool,
}

type Aes192Gcm = AesGcm<aes::Aes192, U12>;

const GCM_NONCE: usize = 12;
const SECRETBOX_NONCE: usize = 24;
const BLOCK: usize = 16;
const TOO_SHORT: &str = "the stored data was shorter than the required size";

/// A key of any kind.
#[derive(Clone)]
pub enum Cipher {
    Gcm128(Box<Aes128Gcm>),
    Gcm192(Box<Aes192Gcm>),
    Gcm256(Box<Aes256Gcm>),
    /// By its key, which each value is scheduled for anew.
    Cbc(Box<[u8]>),
    Secretbox(Box<XSalsa20Poly1305>),
}

impl Cipher {
    /// AES-GCM with a key of 16, 24 or 32 bytes; nothing of another length.
    pub fn gcm(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Cipher::Gcm128(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
            24 => Cipher::Gcm192(Box::new(Aes192Gcm::new_from_slice(key).ok()?)),
            32 => Cipher::Gcm256(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    /// AES-CBC with a key of such lengths.
    pub fn cbc(key: &[u8]) -> Option<Self> {
        matches!(key.len(), 16 | 24 | 32).then(|| Cipher::Cbc(key.into()))
    }

    /// XSalsa20 and Poly1305 with a key of 32 bytes.
    pub fn secretbox(key: &[u8]) -> Option<Self> {
        Some(Cipher::Secretbox(Box::new(XSalsa20Poly1305::new_from_slice(key).ok()?)))
    }

    /// Seals `plain` behind `prefix`. `bound` is authenticated where the cipher can do so.
    ///
    /// # Errors
    /// When the value is longer than the cipher takes.
    pub fn seal(&self, prefix: &[u8], plain: &[u8], bound: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Cipher::Gcm128(key) => seal_gcm(&**key, prefix, plain, bound),
            Cipher::Gcm192(key) => seal_gcm(&**key, prefix, plain, bound),
            Cipher::Gcm256(key) => seal_gcm(&**key, prefix, plain, bound),
            Cipher::Cbc(key) => seal_cbc(key, prefix, plain),
            Cipher::Secretbox(key) => seal_secretbox(key, prefix, plain),
        }
    }

    /// Opens what was sealed, without its prefix.
    ///
    /// # Errors
    /// When it was sealed with another key or for another place, or was changed since.
    pub fn open(&self, sealed: &[u8], bound: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Cipher::Gcm128(key) => open_gcm(&**key, sealed, bound),
            Cipher::Gcm192(key) => open_gcm(&**key, sealed, bound),
            Cipher::Gcm256(key) => open_gcm(&**key, sealed, bound),
            Cipher::Cbc(key) => open_cbc(key, sealed),
            Cipher::Secretbox(key) => open_secretbox(key, sealed),
        }
    }
}

fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

fn seal_gcm<C>(cipher: &C, prefix: &[u8], plain: &[u8], bound: &[u8]) -> Result<Vec<u8>, String>
where
    C: AeadInPlace<NonceSize = U12>,
{
    let nonce = random::<GCM_NONCE>();
    let mut sealed = Vec::with_capacity(prefix.len() + GCM_NONCE + plain.len() + BLOCK);
    sealed.extend_from_slice(prefix);
    sealed.extend_from_slice(&nonce);
    let begin = sealed.len();
    sealed.extend_from_slice(plain);
    let tag = cipher.encrypt_in_place_detached(Nonce::<U12>::from_slice(&nonce), bound, &mut sealed[begin..]);
    sealed.extend_from_slice(&tag.map_err(|_| "the value is too long for AES-GCM".to_owned())?);
    Ok(sealed)
}

fn open_gcm<C>(cipher: &C, sealed: &[u8], bound: &[u8]) -> Result<Vec<u8>, String>
where
    C: AeadInPlace<NonceSize = U12>,
{
    let (nonce, rest) = sealed.split_at_checked(GCM_NONCE).ok_or(TOO_SHORT)?;
    let refused = "cipher: message authentication failed";
    let (text, tag) = rest.split_at_checked(rest.len().wrapping_sub(BLOCK)).ok_or(refused)?;
    let mut plain = text.to_vec();
    let opened = cipher.decrypt_in_place_detached(Nonce::<U12>::from_slice(nonce), bound, &mut plain, tag.into());
    opened.map(|()| plain).map_err(|_| refused.to_owned())
}

fn seal_cbc(key: &[u8], prefix: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
    let iv = random::<BLOCK>();
    let sealed = match key.len() {
        16 => cbc::Encryptor::<aes::Aes128>::new(key.into(), &iv.into()).encrypt_padded_vec_mut::<Pkcs7>(plain),
        24 => cbc::Encryptor::<aes::Aes192>::new(key.into(), &iv.into()).encrypt_padded_vec_mut::<Pkcs7>(plain),
        _ => cbc::Encryptor::<aes::Aes256>::new(key.into(), &iv.into()).encrypt_padded_vec_mut::<Pkcs7>(plain),
    };
    Ok([prefix, &iv, &sealed].concat())
}

fn open_cbc(key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
    let (iv, rest) = sealed.split_at_checked(BLOCK).ok_or(TOO_SHORT)?;
    if rest.len() % BLOCK != 0 {
        return Err("the stored data is not a multiple of the block size".into());
    }
    if rest.is_empty() {
        return Err("invalid PKCS7 data (empty or not padded)".into());
    }
    let plain = match key.len() {
        16 => cbc::Decryptor::<aes::Aes128>::new(key.into(), iv.into()).decrypt_padded_vec_mut::<Pkcs7>(rest),
        24 => cbc::Decryptor::<aes::Aes192>::new(key.into(), iv.into()).decrypt_padded_vec_mut::<Pkcs7>(rest),
        _ => cbc::Decryptor::<aes::Aes256>::new(key.into(), iv.into()).decrypt_padded_vec_mut::<Pkcs7>(rest),
    };
    plain.map_err(|_| "invalid padding on input".to_owned())
}

fn seal_secretbox(cipher: &XSalsa20Poly1305, prefix: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
    let nonce = random::<SECRETBOX_NONCE>();
    let sealed = cipher.encrypt(&nonce.into(), plain).map_err(|_| "the value is too long for a secretbox".to_owned())?;
    Ok([prefix, &nonce, &sealed].concat())
}

fn open_secretbox(cipher: &XSalsa20Poly1305, sealed: &[u8]) -> Result<Vec<u8>, String> {
    let (nonce, rest) = sealed.split_at_checked(SECRETBOX_NONCE).ok_or(TOO_SHORT)?;
    if rest.len() < BLOCK {
        return Err(TOO_SHORT.into());
    }
    cipher.decrypt(nonce.into(), rest).map_err(|_| "output array was not large enough for encryption".to_owned())
}
