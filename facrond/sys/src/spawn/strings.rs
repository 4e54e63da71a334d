//! Strings for a system call.

use nix::libc::c_char;
use std::ffi::CStr;
use std::{iter, ptr};

/// Strings, and an array of pointers to them with a null pointer at its end.
#[derive(Debug)]
pub(super) struct Strings {
    /// The pointers lead into this, so it is never changed.
    _bytes: Box<[u8]>,
    pointers: Box<[*const c_char]>,
}

impl Strings {
    pub(super) fn new<'a>(strings: impl Iterator<Item = &'a CStr> + Clone) -> Self {
        let mut bytes = Vec::with_capacity(strings.clone().map(|string| string.count_bytes() + 1).sum());
        strings.clone().for_each(|string| bytes.extend_from_slice(string.to_bytes_with_nul()));
        let bytes = bytes.into_boxed_slice();
        let mut rest = &*bytes;
        let pointers = strings.map(|string| {
            let pointer = rest.as_ptr().cast();
            rest = &rest[string.count_bytes() + 1..];
            pointer
        });
        let pointers = pointers.chain(iter::once(ptr::null())).collect();
        Self { _bytes: bytes, pointers }
    }

    /// The array.
    pub(super) fn array(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// Each string.
    pub(super) fn iter(&self) -> impl Iterator<Item = *const c_char> {
        self.pointers.iter().copied().take_while(|pointer| !pointer.is_null())
    }
}
