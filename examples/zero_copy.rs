//! Large messages without a copy: written in the ring, read in the ring.
//!
//! ```sh
//! cargo run --release --example zero_copy
//! ```

use ringlane::{Channel, ChannelOptions, Error};
use std::time::Instant;

const FRAME: usize = 1 << 20;
const FRAMES: usize = 200;

fn options() -> ChannelOptions<[u8]> {
    // A message may take up to half a direction.
    Channel::<[u8]>::options().capacity(8 << 20)
}

fn main() -> ringlane::Result<()> {
    let mut camera = options().create("zero-copy-frames")?;
    let start = Instant::now();
    let viewer = std::thread::spawn(view);
    for frame in 0..FRAMES {
        let mut loan = loop {
            match camera.loan(FRAME).map_err(Error::from) {
                // The viewer is behind.
                Err(Error::Full) => std::thread::yield_now(),
                other => break other?,
            }
        };
        // Safe, and in place: what a camera driver would do piece by piece.
        loan.put(0, &(frame as u64).to_ne_bytes())?;
        // SAFETY: the loan is ours until it is committed, and nobody here scribbles over it.
        let pixels = unsafe { std::slice::from_raw_parts_mut(loan.as_mut_ptr(), FRAME) };
        pixels[8..].fill(frame as u8);
        loan.commit(FRAME)?;
    }
    drop(camera);
    let seen = viewer.join().expect("the viewer does not panic")?;
    let rate = (FRAME * seen) as f64 / start.elapsed().as_secs_f64() / 1e9;
    println!("{seen} frames of {FRAME} bytes written and read in place, {rate:.1} GB/s");
    Ok(())
}

/// Another process as a rule.
fn view() -> ringlane::Result<usize> {
    let mut frames =
        options().open_timeout("zero-copy-frames", std::time::Duration::from_secs(5))?;
    let mut seen = 0;
    loop {
        let frame = match frames.recv_ref().map_err(Error::from) {
            Ok(frame) => frame,
            Err(Error::Closed) => return Ok(seen),
            Err(e) => return Err(e),
        };
        let mut number = [0; 8];
        frame.copy_to(0, &mut number)?;
        // SAFETY: nobody writes to a message that was committed and not yet released.
        let pixels = unsafe { frame.as_bytes() };
        assert_eq!(u64::from_ne_bytes(number), seen as u64);
        assert!(pixels[8..].iter().all(|pixel| *pixel == seen as u8));
        seen += 1;
        // Dropping the frame gives its room back.
    }
}
