//! How near matrix products come to what one thread can do:
//! `cargo run --release -p toehold-policy --example products`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example to be looked at")]

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use toehold_policy::Dtype;
use toehold_policy::kernels::{Into, Matrix, PackedRows, add_outer, bytes_read_per_second, multiply_adds_per_second};

/// Ceilings are the best of so many.
const REPEATS: usize = 7;

fn main() {
    let peaks = [Dtype::F32, Dtype::Bf16].map(|dtype| multiply_adds_per_second(dtype, REPEATS) / 1e9);
    println!("multiply-adds in registers: f32 {:.1} GFLOP/s, bf16 {:.1} GFLOP/s", peaks[0], peaks[1]);
    for (name, bytes) in [("16 KiB", 1 << 14), ("512 KiB", 1 << 19), ("8 MiB", 1 << 23), ("256 MiB", 1 << 28)] {
        println!("reading {name} again and again: {:.1} GB/s", bytes_read_per_second(bytes, REPEATS) / 1e9);
    }
    println!();
    println!(
        "{:<32} {:>8} {:>6} {:>8} {:>8} {:>8}",
        "rows x inputs x outputs", "f32", "of peak", "bf16", "bf16/f32", "burn f32"
    );
    let shapes = [
        (1024, 1024, 1024),
        (2048, 256, 1536),
        (4096, 512, 4096),
        (2048, 512, 2048),
        (2048, 1536, 512),
        (2048, 256, 512),
        (2048, 768, 256),
        (512, 256, 1536),
        (256, 512, 3072),
        (128, 256, 1024),
        (128, 256, 512),
        (64, 256, 1536),
        (32, 512, 4096),
        (8, 256, 1536),
        (4, 256, 1536),
        (4, 512, 4096),
        (1, 256, 1536),
        (1, 512, 4096),
    ];
    for (rows, inputs, outputs) in shapes {
        let flops = 2.0 * (rows * inputs * outputs) as f64;
        let [single, half] = [Dtype::F32, Dtype::Bf16].map(|dtype| {
            let matrix = Matrix::pack(dtype, inputs, &[&numbers(inputs * outputs)]);
            let (x, mut y) = (numbers(rows * inputs), vec![0.0; rows * outputs]);
            let mut packed = PackedRows::default();
            rate(flops, || matrix.multiply(&x, black_box(&mut y), Into::Replace, &mut packed))
        });
        let burn = burn_rate(flops, rows, inputs, outputs);
        row(&format!("{rows} x {inputs} x {outputs}"), peaks[0], single, half, burn);
    }
    println!();
    println!("gradients (rows x inputs x outputs):");
    for (rows, inputs, outputs) in [
        (1024, 1024, 1024),
        (256, 256, 1536),
        (2048, 256, 1536),
        (4096, 512, 3072),
        (4096, 1536, 512),
        (2048, 512, 4096),
    ] {
        let flops = 2.0 * (rows * inputs * outputs) as f64;
        let [single, half] = [Dtype::F32, Dtype::Bf16].map(|dtype| {
            let (d_y, x) = (numbers(rows * outputs), numbers(rows * inputs));
            let (mut sum, mut packed) = (vec![0.0; outputs * inputs], PackedRows::default());
            rate(flops, || add_outer(dtype, &d_y, &x, inputs, &mut [black_box(&mut sum)], &mut packed))
        });
        row(&format!("{rows} x {inputs} x {outputs}"), peaks[0], single, half, f64::NAN);
    }
}

fn row(shape: &str, peak: f64, single: f64, half: f64, burn: f64) {
    let (share, ratio) = (100.0 * single / peak, half / single);
    println!("{shape:<32} {single:>8.1} {share:>5.0} % {half:>8.1} {ratio:>8.2} {burn:>8.1}");
}

/// burn's product of tensors, on as many threads as it takes (`RAYON_NUM_THREADS=1` makes that one).
fn burn_rate(flops: f64, rows: usize, inputs: usize, outputs: usize) -> f64 {
    let device = Device::default();
    let tensor =
        |shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(numbers(shape[0] * shape[1]), shape), &device);
    let (x, w) = (tensor([rows, inputs]), tensor([inputs, outputs]));
    rate(flops, || {
        black_box(x.clone().matmul(w.clone()).into_data());
    })
}

/// The rate in GFLOP/s: the best of several, or the mean by the time that this thread had the processor,
/// whichever is higher; calls that are too short to time are timed several at once.
fn rate(flops: f64, mut work: impl FnMut()) -> f64 {
    let calls = (2e8 / flops).ceil() as usize;
    let (mut best, mut total) = (0.0_f64, 0.0);
    work();
    let (began, held) = (Instant::now(), held());
    while total == 0.0 || began.elapsed().as_secs_f64() < 0.2 {
        let start = Instant::now();
        (0..calls).for_each(|_| work());
        best = best.max(calls as f64 * flops / start.elapsed().as_secs_f64());
        total += calls as f64 * flops;
    }
    let mean = held.and_then(|before| Some(total / (self::held()? - before))).unwrap_or(0.0);
    best.max(mean) / 1e9
}

/// Seconds for which this thread has had a processor, where the system tells.
fn held() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + 13) % 1021) as f32 / 1021.0 - 0.5).collect()
}
