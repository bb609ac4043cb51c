//! What is in the external format of a term.

/// How a reference without a number begins in it. The VM writes such a one, but reads four bytes too
/// many of it, and takes what follows for something else: it may end.
const NO_NUMBERS: [u8; 3] = [90, 0, 0];

/// Whether there may be a reference without a number in a term of this external format.
pub fn unreadable(external: &[u8]) -> bool {
    // Text may have these bytes too, so then all of it is gone through.
    let may = external.windows(3).any(|bytes| bytes == NO_NUMBERS);
    may && has_reference_without_number(external).unwrap_or(true)
}

/// `None` if there is something in it that is not known.
fn has_reference_without_number(external: &[u8]) -> Option<bool> {
    let mut reader = Reader(external.strip_prefix(&[131])?);
    let mut terms: u64 = 1;
    while let Some(rest) = terms.checked_sub(1) {
        terms = rest;
        match reader.byte()? {
            b'a' => reader.skip(1)?,
            b'b' => reader.skip(4)?,
            b'F' => reader.skip(8)?,
            b'j' => {}
            b's' | b'w' => {
                let length = reader.byte()?;
                reader.skip(length.into())?;
            }
            b'd' | b'v' | b'k' => {
                let length = reader.short()?;
                reader.skip(length.into())?;
            }
            b'm' => {
                let length = reader.long()?;
                reader.skip(length.into())?;
            }
            // With how many bits there are in the last byte, or with a sign.
            b'M' | b'o' => {
                let length = reader.long()?;
                reader.skip(u64::from(length) + 1)?;
            }
            b'n' => {
                let length = reader.byte()?;
                reader.skip(u64::from(length) + 1)?;
            }
            b'h' => terms += u64::from(reader.byte()?),
            b'i' => terms += u64::from(reader.long()?),
            // With its tail.
            b'l' => terms += u64::from(reader.long()?) + 1,
            b't' => terms += 2 * u64::from(reader.long()?),
            // Module, function and arity.
            b'q' => terms += 3,
            // Module, two numbers and a pid before what it has taken from outside.
            b'p' => {
                reader.skip(4 + 1 + 16 + 4)?;
                terms += 4 + u64::from(reader.long()?);
            }
            // Pids, ports and references have the name of their node first, which is a term.
            b'X' | b'x' => reader.name_and(12)?,
            b'Y' => reader.name_and(8)?,
            b'Z' => match reader.short()? {
                0 => return Some(true),
                numbers => reader.name_and(4 + 4 * u64::from(numbers))?,
            },
            _ => return None,
        }
    }
    Some(false)
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn byte(&mut self) -> Option<u8> {
        self.chunk().map(u8::from_be_bytes)
    }

    fn short(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn long(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    /// Skips an atom, and so many bytes.
    fn name_and(&mut self, bytes: u64) -> Option<()> {
        let length = match self.byte()? {
            b's' | b'w' => self.byte()?.into(),
            b'd' | b'v' => self.short()?,
            _ => return None,
        };
        self.skip(u64::from(length) + bytes)
    }
}
