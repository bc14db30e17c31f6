use ringlane::Store;
use std::time::Instant;
fn main() -> ringlane::Result<()> {
    let d = format!("probe-{}", std::process::id());
    let s = Store::options().domain(&d).create("x")?;
    for &n in &[1000u64, 1_000_000] {
        let keys: Vec<[u8; 16]> = (0..n)
            .map(|i| {
                let mut k = [0u8; 16];
                k[..8].copy_from_slice(&i.wrapping_mul(0x9e3779b97f4a7c15).to_le_bytes());
                k[8..].copy_from_slice(&i.to_le_bytes());
                k
            })
            .collect();
        let mut longest = 0;
        let t = Instant::now();
        for (i, k) in keys.iter().enumerate() {
            let t0 = Instant::now();
            s.set(k, &(i as u64))?;
            longest = longest.max(t0.elapsed().as_nanos());
        }
        println!(
            "{n}: insert {} ns, longest {} us",
            t.elapsed().as_nanos() as u64 / n,
            longest / 1000
        );
        let order: Vec<usize> = {
            let mut v: Vec<usize> = (0..n as usize).collect();
            let mut x = 88172645463325252u64;
            for i in (1..v.len()).rev() {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                v.swap(i, (x % (i as u64 + 1)) as usize);
            }
            v
        };
        let rounds = if n == 1000 { 1000 } else { 2 };
        for _ in 0..2 {
            let t = Instant::now();
            let mut sum = 0u64;
            for _ in 0..rounds {
                for &i in &order {
                    sum = sum.wrapping_add(s.get::<u64>(&keys[i])?.unwrap());
                }
            }
            println!(
                "{n}: get {:.1} ns {sum}",
                t.elapsed().as_nanos() as f64 / (n * rounds) as f64
            );
            let t = Instant::now();
            for _ in 0..rounds {
                for &i in &order {
                    s.set(&keys[i], &1u64)?;
                }
            }
            println!(
                "{n}: overwrite {:.1} ns",
                t.elapsed().as_nanos() as f64 / (n * rounds) as f64
            );
            let t = Instant::now();
            let mut c = 0;
            for _ in 0..rounds {
                for &i in &order {
                    let mut k = keys[i];
                    k[15] = 7;
                    c += s.get::<u64>(&k)?.is_none() as u64;
                }
            }
            println!(
                "{n}: miss {:.1} ns {c}",
                t.elapsed().as_nanos() as f64 / (n * rounds) as f64
            );
        }
        let st = s.stats();
        println!("{st:?}");
        let t = Instant::now();
        s.verify()?;
        println!("verify {:?}", t.elapsed());
        let t = Instant::now();
        println!("iter {} {:?}", s.iter::<u64>().count(), t.elapsed());
        let t = Instant::now();
        println!("all {} {:?}", s.get_all::<u64>()?.len(), t.elapsed());
        let t = Instant::now();
        s.clear()?;
        println!("clear {:?} {}", t.elapsed(), s.len());
        s.verify()?;
    }
    s.remove()
}
