//! Products against plain sums, on every way that this machine can multiply.

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
use pulp::{Scalar, Simd};

use super::unit::{WithSingles, WithWidened, round};
use super::*;
use crate::host::kernels::tests::numbers;

/// A way to compute, chosen by hand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// What [`dispatch`] takes.
    Best,
    #[cfg(target_arch = "x86_64")]
    V4,
    #[cfg(target_arch = "x86_64")]
    V3,
    Scalar,
}

/// The ways that this machine has; the first is what everything else uses.
fn ways() -> Vec<Way> {
    let mut ways = vec![Way::Best];
    #[cfg(target_arch = "x86_64")]
    {
        ways.extend(V4::is_available().then_some(Way::V4));
        ways.extend(V3::is_available().then_some(Way::V3));
    }
    ways.push(Way::Scalar);
    ways
}

fn on<Op: WithUnit>(way: Way, dtype: Dtype, op: Op) -> Op::Output {
    fn run<S: Simd, Op: WithUnit>(simd: S, dtype: Dtype, op: Op) -> Op::Output {
        match dtype {
            Dtype::F32 => simd.vectorize(WithSingles(op)),
            Dtype::Bf16 => simd.vectorize(WithWidened(op)),
        }
    }
    match way {
        Way::Best => dispatch(dtype, op),
        #[cfg(target_arch = "x86_64")]
        Way::V4 => run(V4::try_new().unwrap(), dtype, op),
        #[cfg(target_arch = "x86_64")]
        Way::V3 => run(V3::try_new().unwrap(), dtype, op),
        Way::Scalar => run(Scalar, dtype, op),
    }
}

/// `x Wᵀ` added to `y`, or in its place, with `weights: [outputs, inputs]`.
fn product(way: Way, dtype: Dtype, x: &[f32], weights: &[f32], inputs: usize, y: &mut [f32], into: Into) {
    let (outputs, order) = (weights.len() / inputs, Order::Outputs);
    let mut matrix = Matrix { dtype, outputs, inputs, order, cells: Cells::default() };
    on(way, dtype, Pack { outputs, inputs, order, parts: &[weights], cells: &mut matrix.cells });
    // Memory that other products left their numbers in.
    let mut memory = Cells::default();
    f32::of_mut(&mut memory).resize(7, f32::NAN);
    u32::of_mut(&mut memory).resize(7, 0x7fc0_7fc0);
    on(way, dtype, Multiply { matrix: &matrix, x, y, into, memory: &mut memory });
}

/// The values that a product of `dtype` really takes.
fn taken(dtype: Dtype, values: &[f32]) -> Vec<f64> {
    let one = |&value: &f32| match dtype {
        Dtype::F32 => f64::from(value),
        Dtype::Bf16 => f64::from(f32::from_bits(round(value) << 16)),
    };
    values.iter().map(one).collect()
}

fn transpose(x: &[f32], width: usize) -> Vec<f32> {
    (0..width).flat_map(|column| x.iter().skip(column).step_by(width).copied()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

const DTYPES: [Dtype; 2] = [Dtype::F32, Dtype::Bf16];

/// Rows, inputs, outputs: single ones, odd ones, several blocks of inputs and of columns.
const SHAPES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 1, 33],
    [3, 12, 5],
    [21, 64, 33],
    [9, 40, 96],
    [7, 3, 32],
    [17, 255, 70],
    [5, 1037, 41],
    [131, 513, 18],
    [2, 257, 1030],
];

#[test]
fn products_equal_plain_sums_in_every_way() {
    for ([rows, inputs, outputs], dtype) in SHAPES.iter().flat_map(|&shape| DTYPES.map(|dtype| (shape, dtype))) {
        let (x, weights) = (numbers(rows * inputs, 2), numbers(inputs * outputs, 1));
        let before = numbers(rows * outputs, 3);
        let (taken_x, taken_weights) = (taken(dtype, &x), taken(dtype, &weights));
        let mut first: Option<Vec<u32>> = None;
        for way in ways() {
            // What is replaced must not be read.
            let mut replaced = vec![f32::NAN; rows * outputs];
            product(way, dtype, &x, &weights, inputs, &mut replaced, Into::Replace);
            let mut added = before.clone();
            product(way, dtype, &x, &weights, inputs, &mut added, Into::Add);
            for (at, (&replaced, &added)) in replaced.iter().zip(&added).enumerate() {
                let x = &taken_x[at / outputs * inputs..][..inputs];
                let weights = &taken_weights[at % outputs * inputs..][..inputs];
                let sum: f64 = x.iter().zip(weights).map(|(x, w)| x * w).sum();
                let size: f64 = x.iter().zip(weights).map(|(x, w)| (x * w).abs()).sum();
                // Sums of a block's chain round at most once an input.
                let bound = 6e-8 * (1.0 + size) * (2.0 + (inputs as f64).sqrt() * 2.0);
                let case = format!("{way:?} {dtype:?} {rows} x {inputs} x {outputs} at {at}");
                assert!((f64::from(replaced) - sum).abs() <= bound, "{case}: {replaced}, expected {sum}");
                let sum = sum + f64::from(before[at]);
                assert!((f64::from(added) - sum).abs() <= bound + 6e-8, "{case}: {added}, expected {sum}");
            }
            // One order of additions on all machines: the same bits in every way.
            let found = bits(&added);
            assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{way:?} {dtype:?} {inputs} x {outputs}");
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_and_among_any_others() {
    for dtype in DTYPES {
        for [inputs, outputs] in [[1, 1], [37, 70], [600, 33], [1037, 7]] {
            let rows = 150;
            let (x, weights) = (numbers(rows * inputs, 2), numbers(inputs * outputs, 1));
            let (matrix, mut packed) = (Matrix::pack(dtype, inputs, &[&weights]), PackedRows::default());
            for into in [Into::Replace, Into::Add] {
                let before = numbers(outputs, 5);
                let mut multiply = |x: &[f32]| {
                    let mut y = before.repeat(x.len() / inputs);
                    matrix.multiply(x, &mut y, into, &mut packed);
                    bits(&y)
                };
                let all = multiply(&x);
                for count in [1, 2, 3, 5, 7, 8, 9, 13, 64, 129] {
                    for from in [0, 1, 6, rows - count] {
                        let some = multiply(&x[from * inputs..][..count * inputs]);
                        assert_eq!(some, all[from * outputs..][..count * outputs], "{count} rows from {from}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_transpose_parts_and_packing_anew_give_the_same_products() {
    let (inputs, outputs, rows) = (13, 37, 11);
    let (weights, x) = (numbers(inputs * outputs, 1), numbers(inputs * rows, 2));
    for dtype in DTYPES {
        let product = |matrix: &Matrix| {
            let (mut y, mut packed) = (vec![f32::NAN; rows * outputs], PackedRows::default());
            matrix.multiply(&x, &mut y, Into::Replace, &mut packed);
            y
        };
        let expected = product(&Matrix::pack(dtype, inputs, &[&weights]));
        let (first, second) = weights.split_at(5 * inputs);
        assert_eq!(product(&Matrix::pack(dtype, inputs, &[first, second])), expected);
        let transposed = transpose(&weights, inputs);
        let (first, second) = transposed.split_at(5 * outputs);
        let mut matrix = Matrix::pack_transposed(dtype, outputs, &[first, second]);
        assert_eq!((matrix.inputs(), matrix.outputs()), (inputs, outputs));
        assert_eq!(product(&matrix), expected);
        matrix.repack(&[&numbers(inputs * outputs, 9)]);
        assert_ne!(product(&matrix), expected);
        matrix.repack(&[&transposed]);
        assert_eq!(product(&matrix), expected);
    }
}

#[test]
fn outer_products_equal_plain_sums_in_every_way() {
    for ([outputs, rows, width], dtype) in SHAPES.iter().flat_map(|&shape| DTYPES.map(|dtype| (shape, dtype))) {
        let (d_y, x) = (numbers(rows * outputs, 4), numbers(rows * width, 5));
        let before = numbers(outputs * width, 6);
        let (taken_d_y, taken_x) = (taken(dtype, &d_y), taken(dtype, &x));
        for way in ways() {
            let mut sum = before.clone();
            // Parts that no tile divides.
            let (first, second) = sum.split_at_mut(outputs / 3 * width);
            let mut memory = Cells::default();
            f32::of_mut(&mut memory).resize(70_000, f32::NAN);
            u32::of_mut(&mut memory).resize(70_000, 0x7fc0_7fc0);
            let op = AddOuter { d_y: &d_y, x: &x, width, sums: &mut [first, second], memory: &mut memory };
            on(way, dtype, op);
            for (at, &found) in sum.iter().enumerate() {
                let (output, input) = (at / width, at % width);
                let terms = || (0..rows).map(|r| taken_d_y[r * outputs + output] * taken_x[r * width + input]);
                let expected = terms().sum::<f64>() + f64::from(before[at]);
                let bound = 6e-8 * (2.0 + terms().map(f64::abs).sum::<f64>()) * (2.0 + (rows as f64).sqrt() * 2.0);
                let case = format!("{way:?} {dtype:?} {rows} x {outputs} x {width} at {at}");
                assert!((f64::from(found) - expected).abs() <= bound, "{case}: {found}, expected {expected}");
            }
        }
    }
}

#[test]
fn no_rows_change_nothing() {
    for dtype in DTYPES {
        let (mut sum, mut packed) = (vec![1.0; 6], PackedRows::default());
        add_outer(dtype, &[], &[], 3, &mut [&mut sum], &mut packed);
        assert_eq!(sum, [1.0; 6]);
        Matrix::pack(dtype, 3, &[&sum]).multiply(&[], &mut [], Into::Replace, &mut packed);
    }
}

#[test]
fn bf16_is_the_nearest_and_the_even_one_of_two() {
    for (value, expected) in [
        (1.0, 0x3f80),
        (-0.0, 0x8000),
        // Halfway: down to even, up to even; and a bit to either side.
        (f32::from_bits(0x3f80_8000), 0x3f80),
        (f32::from_bits(0x3f81_8000), 0x3f82),
        (f32::from_bits(0x3f80_8001), 0x3f81),
        (f32::from_bits(0x3f81_7fff), 0x3f81),
        (f32::MAX, 0x7f80),
        (f32::NEG_INFINITY, 0xff80),
        (f32::from_bits(0x7f80_0001), 0x7fc0),
        (f32::from_bits(0x7fff_ffff), 0x7fff),
    ] {
        assert_eq!(round(value), expected, "{value}");
    }
}

/// What was packed is read again: in f32 to the bit, in bf16 rounded.
#[test]
fn outputs_are_read_as_they_were_packed() {
    for (outputs, inputs) in [(1, 1), (3, 5), (33, 7), (70, 64), (5, 2)] {
        let values: Vec<f32> = (0..outputs * inputs).map(|i| (i as f32 * 0.37 - 3.0).sin() * 1.7).collect();
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let matrix = Matrix::pack(dtype, inputs, &[&values]);
            for (output, expected) in values.chunks_exact(inputs).enumerate() {
                let mut found = vec![7.0];
                matrix.read_output(output, &mut found);
                let expected: Vec<f32> = match dtype {
                    Dtype::F32 => expected.to_vec(),
                    Dtype::Bf16 => {
                        expected.iter().map(|&value| f32::from_bits(super::unit::round(value) << 16)).collect()
                    }
                };
                assert_eq!(found[0], 7.0, "it is appended");
                assert_eq!(found[1..], expected, "{dtype:?} {outputs} x {inputs}, output {output}");
            }
        }
    }
}
