//! Norms, rotations and the gate.

use super::*;
use crate::host::{kernels, reference, slopes};

const EPSILON: f32 = 1e-6;

/// Of the largest number: what is written is a few roundings away, sums over rows a few more.
const BOUND: f64 = 2e-6;

#[track_caller]
fn check_rms_norm(rows: usize, width: usize) {
    let mut draws = Draws((rows * 1000 + width) as u64);
    let (x, weight) = (draws.numbers(rows * width, 3.0), draws.numbers(width, 2.0));
    let (d_y, d_x_before) = (draws.numbers(rows * width, 1.0), draws.numbers(rows * width, 1.0));
    let d_weight_before = draws.numbers(width, 1.0);
    let found = on_every_machine(|| {
        let (mut y, mut d_x, mut d_weight) = (poison(x.len()), d_x_before.clone(), d_weight_before.clone());
        kernels::rms_norm(&x, &weight, EPSILON, &mut y);
        slopes::rms_norm(&x, &weight, EPSILON, &d_y, &mut d_x, &mut d_weight);
        vec![y, d_x, d_weight]
    });
    let what = format!("{rows} rows of {width}");
    let (x64, weight64, d_y64, epsilon) = (wide(&x), wide(&weight), wide(&d_y), f64::from(EPSILON));
    let (mut d_x, mut d_weight) = reference::rms_norm_back(&x64, &weight64, epsilon, &d_y64);
    if x.len() <= 12 {
        let loss = |x: &[f64], weight: &[f64]| dot(&reference::rms_norm(x, weight, epsilon), &d_y64);
        near(&what, &d_x, &differences(&x64, |x| loss(x, &weight64)), 1e-6);
        near(&what, &d_weight, &differences(&weight64, |weight| loss(&x64, weight)), 1e-6);
    }
    add(&mut d_x, &d_x_before);
    add(&mut d_weight, &d_weight_before);
    close(&format!("{what}: y"), &wide(&found[0]), &reference::rms_norm(&x64, &weight64, epsilon), BOUND);
    // Slopes along a row cancel.
    near(&format!("{what}: d_x"), &wide(&found[1]), &d_x, BOUND);
    close(&format!("{what}: d_weight"), &wide(&found[2]), &d_weight, BOUND);
    for row in 0..rows {
        let at = row * width..(row + 1) * width;
        let (mut y, mut d_x) = (poison(width), d_x_before[at.clone()].to_vec());
        kernels::rms_norm(&x[at.clone()], &weight, EPSILON, &mut y);
        slopes::rms_norm(&x[at.clone()], &weight, EPSILON, &d_y[at.clone()], &mut d_x, &mut d_weight_before.clone());
        same_bits(&format!("{what}: y of row {row} alone"), &y, &found[0][at.clone()]);
        same_bits(&format!("{what}: d_x of row {row} alone"), &d_x, &found[1][at]);
    }
}

#[test]
fn norms_equal_their_reference_there_and_back() {
    for (rows, width) in [(1, 1), (1, 2), (3, 4), (2, 5), (1, 16), (5, 17), (4, 31), (2, 257), (33, 48), (130, 64)] {
        check_rms_norm(rows, width);
    }
    let mut draws = Draws(1);
    for _ in 0..20 {
        check_rms_norm(draws.size(20), draws.size(300));
    }
}

#[test]
fn a_row_of_zeros_stays_zero_and_has_finite_slopes() {
    let (mut y, mut d_x, mut d_weight) = (poison(5), vec![0.0; 5], vec![0.0; 5]);
    kernels::rms_norm(&[0.0; 5], &[2.0; 5], EPSILON, &mut y);
    slopes::rms_norm(&[0.0; 5], &[2.0; 5], EPSILON, &[1.0; 5], &mut d_x, &mut d_weight);
    assert_eq!((y, d_weight), (vec![0.0; 5], vec![0.0; 5]));
    close("d_x", &wide(&d_x), &[2e3; 5], 1e-6);
}

#[track_caller]
fn check_norm_and_rotate(heads: usize, half: usize) {
    let width = 2 * half;
    let mut draws = Draws((heads * 1000 + half) as u64);
    let (x, weight) = (draws.numbers(heads * width, 3.0), draws.numbers(width, 2.0));
    let (d_y, d_weight_before) = (draws.numbers(heads * width, 1.0), draws.numbers(width, 1.0));
    let (sin, cos): (Vec<f32>, Vec<f32>) = draws.numbers(half, 9.0).into_iter().map(f32::sin_cos).unzip();
    let found = on_every_machine(|| {
        let (mut y, mut d, mut d_weight) = (x.clone(), d_y.clone(), d_weight_before.clone());
        kernels::norm_and_rotate(&mut y, &weight, EPSILON, &cos, &sin);
        slopes::norm_and_rotate(&x, &weight, EPSILON, (&cos, &sin), &mut d, &mut d_weight);
        vec![y, d, d_weight]
    });
    let what = format!("{heads} heads of {width}");
    let (x64, weight64, d_y64, epsilon) = (wide(&x), wide(&weight), wide(&d_y), f64::from(EPSILON));
    let (cos64, sin64) = (wide(&cos), wide(&sin));
    let (d_x, mut d_weight) = reference::norm_and_rotate_back(&x64, &weight64, epsilon, (&cos64, &sin64), &d_y64);
    let y = reference::norm_and_rotate(&x64, &weight64, epsilon, &cos64, &sin64);
    if x.len() <= 12 {
        let loss =
            |x: &[f64], weight: &[f64]| dot(&reference::norm_and_rotate(x, weight, epsilon, &cos64, &sin64), &d_y64);
        // cos and sin were rounded, so lengths change by 1e-7 in a turn: the bound of its transpose, too.
        near(&what, &d_x, &differences(&x64, |x| loss(x, &weight64)), 1e-6);
        near(&what, &d_weight, &differences(&weight64, |weight| loss(&x64, weight)), 1e-6);
    }
    add(&mut d_weight, &d_weight_before);
    close(&format!("{what}: y"), &wide(&found[0]), &y, BOUND);
    // Slopes along a row cancel.
    near(&format!("{what}: d_x"), &wide(&found[1]), &d_x, BOUND);
    close(&format!("{what}: d_weight"), &wide(&found[2]), &d_weight, BOUND);
    for head in 0..heads {
        let at = head * width..(head + 1) * width;
        let (mut y, mut d) = (x[at.clone()].to_vec(), d_y[at.clone()].to_vec());
        kernels::norm_and_rotate(&mut y, &weight, EPSILON, &cos, &sin);
        slopes::norm_and_rotate(&x[at.clone()], &weight, EPSILON, (&cos, &sin), &mut d, &mut d_weight_before.clone());
        same_bits(&format!("{what}: y of head {head} alone"), &y, &found[0][at.clone()]);
        same_bits(&format!("{what}: d of head {head} alone"), &d, &found[1][at]);
    }
}

#[test]
fn turned_norms_equal_their_reference_there_and_back() {
    for (heads, half) in [(1, 1), (1, 3), (2, 2), (3, 2), (5, 7), (8, 16), (4, 33), (16, 64)] {
        check_norm_and_rotate(heads, half);
    }
    let mut draws = Draws(2);
    for _ in 0..20 {
        check_norm_and_rotate(draws.size(12), draws.size(80));
    }
}

#[track_caller]
fn check_rotate(heads: usize, half: usize, scale: f32) {
    let width = 2 * half;
    let mut draws = Draws((heads * 2000 + half) as u64);
    let (x, d_y) = (draws.numbers(heads * width, 3.0), draws.numbers(heads * width, 1.0));
    let (sin, cos): (Vec<f32>, Vec<f32>) = draws.numbers(half, 9.0).into_iter().map(f32::sin_cos).unzip();
    let found = on_every_machine(|| {
        let (mut y, mut d) = (x.clone(), d_y.clone());
        kernels::rotate(&mut y, scale, &cos, &sin);
        slopes::rotate(scale, (&cos, &sin), &mut d);
        vec![y, d]
    });
    let what = format!("{heads} heads of {width}");
    let (cos64, sin64, backwards) =
        (wide(&cos), wide(&sin), sin.iter().map(|sin| -f64::from(*sin)).collect::<Vec<_>>());
    let times = |values: Vec<f64>| values.into_iter().map(|value| value * f64::from(scale)).collect::<Vec<_>>();
    near(&format!("{what}: y"), &wide(&found[0]), &times(reference::rotate(&wide(&x), &cos64, &sin64)), BOUND);
    // The transpose of a turn is the turn back.
    let d = times(reference::rotate(&wide(&d_y), &cos64, &backwards));
    near(&format!("{what}: d"), &wide(&found[1]), &d, BOUND);
}

#[test]
fn turns_equal_their_reference_there_and_back() {
    for (heads, half) in [(1, 1), (1, 3), (3, 2), (5, 7), (8, 16), (4, 33), (16, 64)] {
        check_rotate(heads, half, 1.0);
        check_rotate(heads, half, 0.3);
    }
}

#[test]
fn biases_are_added_to_every_row_and_their_slopes_are_sums_of_columns() {
    for (rows, widths) in [(1, vec![1]), (3, vec![2, 5]), (7, vec![17, 3, 33]), (40, vec![64])] {
        let width: usize = widths.iter().sum();
        let mut draws = Draws((rows * 1000 + width) as u64);
        let (bias, y, d_y) =
            (draws.numbers(width, 1.0), draws.numbers(rows * width, 1.0), draws.numbers(rows * width, 1.0));
        let before: Vec<Vec<f32>> = widths.iter().map(|&width| draws.numbers(width, 1.0)).collect();
        let found = on_every_machine(|| {
            let (mut y, mut d) = (y.clone(), before.clone());
            kernels::add_bias(&bias, &mut y);
            slopes::add_bias(&d_y, &mut d.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            vec![y, d.concat()]
        });
        let (mut sums, mut moved) = (wide(&before.concat()), wide(&y));
        for row in 0..rows {
            add(&mut sums, &d_y[row * width..][..width]);
            add(&mut moved[row * width..][..width], &bias);
        }
        near(&format!("{rows} rows of {width}: y"), &wide(&found[0]), &moved, BOUND);
        near(&format!("{rows} rows of {width}: d"), &wide(&found[1]), &sums, BOUND);
    }
}

#[track_caller]
fn check_gate(rows: usize, width: usize, size: f32) {
    let mut draws = Draws((rows * 1000 + width) as u64);
    let (x, d_y) = (draws.numbers(rows * 2 * width, size), draws.numbers(rows * width, 1.0));
    let found = on_every_machine(|| {
        let (mut y, mut again, mut d_x) = (poison(d_y.len()), d_y.clone(), poison(x.len()));
        kernels::gate(&x, width, &mut y);
        slopes::gate(&x, width, &mut again, &mut d_x);
        vec![y, again, d_x]
    });
    let what = format!("{rows} rows of {width} up to {size}");
    let (x64, d_y64) = (wide(&x), wide(&d_y));
    let (y, d_x) = (reference::gate(&x64, width), reference::gate_back(&x64, width, &d_y64));
    if x.len() <= 12 {
        near(&what, &d_x, &differences(&x64, |x| dot(&reference::gate(x, width), &d_y64)), 1e-6);
    }
    near(&format!("{what}: y"), &wide(&found[0]), &y, BOUND);
    near(&format!("{what}: y on the way back"), &wide(&found[1]), &y, BOUND);
    near(&format!("{what}: d_x"), &wide(&found[2]), &d_x, BOUND);
    for row in 0..rows {
        let (at, both) = (row * width..(row + 1) * width, 2 * row * width..2 * (row + 1) * width);
        let (mut y, mut again, mut d_x) = (poison(width), d_y[at.clone()].to_vec(), poison(2 * width));
        kernels::gate(&x[both.clone()], width, &mut y);
        slopes::gate(&x[both.clone()], width, &mut again, &mut d_x);
        same_bits(&format!("{what}: y of row {row} alone"), &y, &found[0][at.clone()]);
        same_bits(&format!("{what}: y again of row {row} alone"), &again, &found[1][at]);
        same_bits(&format!("{what}: d_x of row {row} alone"), &d_x, &found[2][both]);
    }
}

#[test]
fn gates_equal_their_reference_there_and_back() {
    for (rows, width) in [(1, 1), (1, 2), (2, 3), (3, 1), (5, 17), (2, 64), (33, 31), (4, 768)] {
        // The exponential is cut off at 88: what is less than 1e-33 is not exact, and need not be.
        for size in [1.0, 12.0, 300.0] {
            check_gate(rows, width, size);
        }
    }
    let mut draws = Draws(3);
    for _ in 0..20 {
        check_gate(draws.size(12), draws.size(300), 8.0);
    }
}

fn add(sum: &mut [f64], values: &[f32]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += f64::from(value);
    }
}
