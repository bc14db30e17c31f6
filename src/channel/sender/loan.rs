//! Room for a message, to be written in place.

use super::{Failure, Sender};
use crate::error::TrySendError;
use crate::ring::{Claim, Refusal};
use core::fmt;

impl Sender<[u8]> {
    /// Room for a message of up to `len` bytes, to be written in place.
    ///
    /// ```
    /// # let domain = format!("doc-loan-{}", std::process::id());
    /// use ringlane::Channel;
    ///
    /// let mut host = Channel::<[u8]>::options().domain(&domain).create("frames")?;
    /// let mut guest = Channel::<[u8]>::options().domain(&domain).open("frames")?;
    /// let mut loan = host.loan(1024)?;
    /// loan.put(0, b"head")?;
    /// loan.put(4, b"tail")?;
    /// loan.commit(8)?;
    /// assert_eq!(guest.recv()?, b"headtail");
    /// # Ok::<(), ringlane::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Full` if there is no room now, or as [`try_send`](Self::try_send).
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Loan<'_>, TrySendError<()>> {
        if let Err(failure) = self.check() {
            return Err(self.failed(failure, ()));
        }
        let largest = self.producer.ring().max_len();
        let claim = match len <= largest {
            true => self.producer.claim(len),
            false => Err(Refusal::TooLarge),
        };
        match claim {
            Ok(claim) => Ok(Loan {
                sender: self,
                claim,
            }),
            Err(refusal) => {
                let mut failure = self.refused(refusal, len);
                if matches!(failure, Failure::Full) {
                    failure = self.why_full();
                }
                Err(self.failed(failure, ()))
            }
        }
    }
}

/// Room for a message that is written in place and sent by [`commit`](Loan::commit). Dropped
/// before that, it leaves no trace. See [`Sender::loan`].
pub struct Loan<'a> {
    sender: &'a mut Sender<[u8]>,
    claim: Claim,
}

impl Loan<'_> {
    /// Bytes that fit.
    pub fn len(&self) -> usize {
        self.claim.len()
    }

    /// Whether no byte fits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `bytes` to position `at` of the message. Any position will do; multiples of 8 are
    /// the fastest.
    ///
    /// # Errors
    /// `TooLarge` if they do not fit; `Forked`.
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> crate::Result<()> {
        self.check(at.saturating_add(bytes.len()))?;
        self.sender.producer.overwrite(&self.claim, at, bytes);
        Ok(())
    }

    /// Sends the first `len` bytes. Those that were not written hold what lay there before: zeros,
    /// or pieces of earlier messages of this direction.
    ///
    /// # Errors
    /// `TooLarge` if the loan is smaller; `Forked`. Nothing is sent then.
    #[inline]
    pub fn commit(self, len: usize) -> crate::Result<()> {
        self.check(len)?;
        self.sender.producer.commit(self.claim, len);
        self.sender.ring();
        Ok(())
    }

    fn check(&self, end: usize) -> crate::Result<()> {
        if self.sender.canary.forked() {
            return Err(crate::Error::Forked);
        }
        let max = self.claim.len();
        if end <= max {
            Ok(())
        } else {
            Err(crate::Error::TooLarge {
                len: end as u64,
                max: max as u64,
            })
        }
    }

    /// Where the message lies, for writing it without a copy; 8-aligned, good for
    /// [`len`](Loan::len) bytes as long as the loan lives.
    ///
    /// # Safety
    /// Deriving a reference from the pointer claims that nobody else touches these bytes while it
    /// lives. No honest process does before the loan is committed; a process of the same user that
    /// scribbles over the segment would make it undefined behaviour.
    #[allow(unsafe_code)]
    pub unsafe fn as_mut_ptr(&mut self) -> *mut u8 {
        self.sender.producer.payload(&self.claim, 0).as_ptr().cast()
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loan({} bytes)", self.len())
    }
}
