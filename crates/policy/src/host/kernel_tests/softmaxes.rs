//! Softmaxes: whole, over blocks and back, and those of logits.

use super::*;
use crate::host::{kernels, reference, slopes};
use crate::outputs::Outputs;

/// Weights and entropies are within this of the largest: arguments up to 30 are rounded to 2e-6 before the
/// exponential.
const BOUND: f64 = 1e-5;

const LENGTHS: [usize; 10] = [1, 2, 3, 15, 16, 17, 63, 64, 65, 1000];

#[track_caller]
fn check_row(length: usize, size: f32) {
    let mut draws = Draws(length as u64);
    let (x, scale) = (draws.numbers(length, size), 0.7);
    let (what, x64) = (format!("{length} up to {size}"), wide(&x));
    let known = std::cell::Cell::new((0.0, 0.0));
    let found = on_every_machine(|| {
        let (mut powers, mut scratch, mut p) = (poison(length), poison(length), x.clone());
        let max = kernels::shifted_exp(&x, scale, &mut powers);
        let sum = kernels::log_sum(&x, &mut scratch);
        kernels::probabilities(&mut p, sum.log_sum, -3.0);
        known.set((f64::from(sum.log_sum), f64::from(sum.entropy)));
        vec![powers, p, vec![max, sum.log_sum, sum.entropy]]
    });
    let p = reference::softmax(&x64);
    let max = x64.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(f64::from(found[2][0]), max, "{what}: the largest");
    let powers: Vec<f64> = x64.iter().map(|x| (f64::from(scale) * (x - max)).exp()).collect();
    close(&format!("{what}: powers"), &wide(&found[0]), &powers, BOUND);
    close(&format!("{what}: slopes"), &wide(&found[1]), &p.iter().map(|p| -3.0 * p).collect::<Vec<_>>(), BOUND);
    let (log_sum, entropy) = known.get();
    // A log-sum is a sum of two numbers that may cancel; an entropy is one of a scale up to ln(length).
    assert!((log_sum - reference::log_sum(&x64)).abs() <= 1e-6 * (1.0 + max.abs()), "{what}: {log_sum}");
    let expected = reference::entropy(&x64);
    assert!((entropy - expected).abs() <= 3e-6 * (1.0 + expected), "{what}: entropy {entropy}, expected {expected}");
}

#[test]
fn rows_of_logits_equal_their_reference() {
    for length in LENGTHS {
        for size in [0.0, 1.0, 15.0] {
            check_row(length, size);
        }
    }
    let mut draws = Draws(4);
    for _ in 0..20 {
        check_row(draws.size(5000), 10.0);
    }
}

/// Rows of scores that come in blocks of `stride`, of which row `r` sees `seen(block, r)`.
#[track_caller]
fn check_blocks(rows: usize, width: usize, stride: usize, seen: &dyn Fn(usize, usize) -> usize, blocks: usize) {
    let mut draws = Draws((rows * 1000 + width * 10 + stride) as u64);
    let scores: Vec<Vec<f32>> = (0..blocks).map(|_| draws.numbers(rows * stride, 9.0)).collect();
    let values: Vec<Vec<f32>> = (0..blocks).map(|_| draws.numbers(stride * width, 1.0)).collect();
    let hidden = |block: usize| {
        let mut scores = scores[block].clone();
        for (row, scores) in scores.chunks_exact_mut(stride).enumerate() {
            scores[seen(block, row)..].fill(f32::NAN);
        }
        scores
    };
    let what = format!("{rows} rows, {blocks} blocks of {stride}, values of {width}");
    // Rows from `from` on, as many as `count`: `[sums / total, log-sums, weights of the last block]`.
    let merge = |from: usize, count: usize| {
        let (mut largest, mut total) = (vec![f32::NEG_INFINITY; count], vec![0.0; count]);
        let (mut sums, mut last) = (vec![0.0f32; count * width], Vec::new());
        for (block, values) in values.iter().enumerate() {
            last = hidden(block)[from * stride..(from + count) * stride].to_vec();
            let seen = |row| seen(block, from + row);
            kernels::merge_softmax(&mut last, stride, seen, &mut largest, &mut total, &mut sums);
            for (sums, weights) in sums.chunks_exact_mut(width).zip(last.chunks_exact(stride)) {
                for (weight, value) in weights.iter().zip(values.chunks_exact(width)) {
                    sums.iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * value);
                }
            }
        }
        let totals = total.iter().flat_map(|&total| vec![total; width]);
        let out = sums.iter().zip(totals).map(|(sum, total)| sum / total).collect();
        let log_sums = largest.iter().zip(&total).map(|(largest, total)| largest + total.ln()).collect();
        vec![out, log_sums, last]
    };
    let found = on_every_machine(|| merge(0, rows));
    for row in 0..rows {
        let (mut all, mut told) = (Vec::new(), Vec::new());
        for block in 0..blocks {
            for key in 0..seen(block, row) {
                all.push(f64::from(scores[block][row * stride + key]));
                told.push(wide(&values[block][key * width..][..width]));
            }
        }
        let (mut out, p) = (vec![0.0; width], reference::softmax(&all));
        for (p, told) in p.iter().zip(&told) {
            out.iter_mut().zip(told).for_each(|(out, told)| *out += p * told);
        }
        // The sums may cancel; the values are at most 1.
        let error = out.iter().zip(&found[0][row * width..]).map(|(out, &found)| (out - f64::from(found)).abs());
        assert!(error.fold(0.0, f64::max) <= BOUND, "{what}: sums of row {row}");
        close(&what, &[f64::from(found[1][row])], &[reference::log_sum(&all)], 2e-6);
        let unseen = &found[2][row * stride + seen(blocks - 1, row)..(row + 1) * stride];
        assert!(unseen.iter().all(|weight| *weight == 0.0), "{what}: row {row} has no weight on what it cannot see");
        let alone = merge(row, 1);
        same_bits(&format!("{what}: row {row} alone"), &alone[0], &found[0][row * width..][..width]);
        same_bits(&format!("{what}: row {row} alone"), &alone[2], &found[2][row * stride..][..stride]);
    }
    check_way_back(&what, rows, stride, &|row| seen(0, row), &scores[0], &hidden(0));
}

/// One block's way back against the softmax of that block alone.
#[track_caller]
fn check_way_back(
    what: &str,
    rows: usize,
    stride: usize,
    seen: &dyn Fn(usize) -> usize,
    scores: &[f32],
    hidden: &[f32],
) {
    let mut draws = Draws((rows * stride) as u64);
    let d_weights = draws.numbers(rows * stride, 1.0);
    let hidden_d: Vec<f32> =
        hidden.iter().zip(&d_weights).map(|(score, d)| if score.is_nan() { f32::NAN } else { *d }).collect();
    let row = |values: &[f32], row: usize| wide(&values[row * stride..][..seen(row)]);
    let weights: Vec<Vec<f64>> = (0..rows).map(|r| reference::softmax(&row(scores, r))).collect();
    let along: Vec<f32> = (0..rows).map(|r| dot(&weights[r], &row(&d_weights, r)) as f32).collect();
    let log_sums: Vec<f32> = (0..rows).map(|r| reference::log_sum(&row(scores, r)) as f32).collect();
    let found = on_every_machine(|| {
        let (mut p, mut d) = (hidden.to_vec(), hidden_d.clone());
        slopes::tree_softmax(&mut p, &mut d, stride, seen, &log_sums, &along);
        vec![p, d]
    });
    for r in 0..rows {
        let expected: Vec<f64> =
            weights[r].iter().zip(row(&d_weights, r)).map(|(p, d)| p * (d - f64::from(along[r]))).collect();
        let at = r * stride..r * stride + seen(r);
        close(&format!("{what}: weights again"), &wide(&found[0][at.clone()]), &weights[r], BOUND);
        // Slopes of a row that sees one score are 0 but for roundings: the bound is of the weights, not of them.
        let error = found[1][at.clone()].iter().zip(&expected).map(|(&found, d)| (f64::from(found) - d).abs());
        assert!(error.fold(0.0, f64::max) <= BOUND, "{what}: slopes of row {r}");
        if (1..=4).contains(&expected.len()) {
            let loss = |scores: &[f64]| dot(&reference::softmax(scores), &row(&d_weights, r));
            for (difference, d) in differences(&row(scores, r), loss).iter().zip(&expected) {
                assert!((difference - d).abs() < 1e-6, "{what}: {d}, by differences {difference}");
            }
        }
        for list in &found {
            let rest = &list[at.end..(r + 1) * stride];
            assert!(rest.iter().all(|slope| *slope == 0.0), "{what}: row {r} has no slope on what it cannot see");
        }
        let (mut p, mut d) = (hidden[r * stride..][..stride].to_vec(), hidden_d[r * stride..][..stride].to_vec());
        slopes::tree_softmax(&mut p, &mut d, stride, |_| seen(r), &log_sums[r..=r], &along[r..=r]);
        same_bits(&format!("{what}: weights of row {r} alone"), &p, &found[0][r * stride..][..stride]);
        same_bits(&format!("{what}: slopes of row {r} alone"), &d, &found[1][r * stride..][..stride]);
    }
}

#[test]
fn softmaxes_over_blocks_equal_the_whole_ones_there_and_back() {
    for (rows, width, stride) in [(1, 1, 1), (1, 16, 16), (3, 5, 4), (2, 16, 64), (7, 33, 17), (64, 32, 64)] {
        check_blocks(rows, width, stride, &|_, _| stride, 1);
        check_blocks(rows, width, stride, &|_, row| (row + 1).min(stride), 3);
        // Nothing seen at all in some blocks.
        check_blocks(rows, width, stride, &|block, row| if (block + row) % 3 == 1 { 0 } else { stride }, 4);
    }
    let mut draws = Draws(5);
    for _ in 0..10 {
        let (rows, width, stride) = (draws.size(20), draws.size(40), draws.size(80));
        let limit = draws.size(stride);
        check_blocks(rows, width, stride, &move |block, row| 1 + (row * 7 + block * limit) % stride, 3);
    }
}

/// `rows` rows of logits with some picks each, none for some, read in pieces of `piece` rows.
#[track_caller]
fn check_outputs(rows: usize, vocabulary: usize, picks: usize, size: f32, piece: usize) {
    let mut draws = Draws((rows * 100 + vocabulary + picks) as u64);
    let picks: Vec<(usize, u32)> =
        (0..picks).map(|_| (3 * draws.size(rows), (draws.size(vocabulary) - 1) as u32)).collect();
    let outputs = Outputs::new(&picks);
    let count = outputs.rows.len();
    let (logits, coefficients) = (draws.numbers(count * vocabulary, size), draws.numbers(picks.len(), 2.0));
    let read = |piece: usize| {
        let (mut scores, mut log_sums, mut slopes) = (outputs.unread(), poison(count), logits.clone());
        scores.current.fill(f32::NAN);
        scores.entropy.fill(f32::NAN);
        for start in (0..count).step_by(piece) {
            let range = start..count.min(start + piece);
            let at = range.start * vocabulary..range.end * vocabulary;
            outputs.read(range.clone(), &logits[at.clone()], &mut log_sums[range.clone()], &mut scores);
            outputs.slopes(range.clone(), &mut slopes[at], &log_sums[range], &coefficients);
        }
        vec![scores.current, scores.entropy, log_sums, slopes]
    };
    let found = on_every_machine(|| read(count));
    let what = format!("{count} rows of {vocabulary} up to {size}");
    for (list, (found, pieces)) in found.iter().zip(read(piece)).enumerate() {
        same_bits(&format!("{what}: list {list} in pieces of {piece}"), &pieces, found);
    }
    let row_of = |pick: usize| outputs.rows.iter().position(|&row| row == picks[pick].0).unwrap();
    let logits_of = |output: usize| wide(&logits[output * vocabulary..][..vocabulary]);
    let by_pick = |f: &dyn Fn(&[f64], usize) -> f64| -> Vec<f64> {
        (0..picks.len()).map(|pick| f(&logits_of(row_of(pick)), picks[pick].1 as usize)).collect()
    };
    let near = |name: &str, found: &[f32], expected: &[f64]| {
        for (pick, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            // What may cancel is as large as the logits.
            let bound = 2e-6 * (1.0 + f64::from(size));
            assert!(
                (f64::from(found) - expected).abs() <= bound,
                "{what}: {name} {pick}: {found}, expected {expected}"
            );
        }
    };
    near("log-probability", &found[0], &by_pick(&|logits, token| reference::selected(logits, &[(token, 1.0)])));
    near("entropy", &found[1], &by_pick(&|logits, _| reference::entropy(logits)));
    near("log-sum", &found[2], &(0..count).map(|output| reference::log_sum(&logits_of(output))).collect::<Vec<_>>());
    for output in 0..count {
        let picked = (0..picks.len()).filter(|&pick| row_of(pick) == output);
        let picked: Vec<(usize, f64)> =
            picked.map(|pick| (picks[pick].1 as usize, f64::from(coefficients[pick]))).collect();
        let expected = reference::selected_back(&logits_of(output), &picked);
        if vocabulary <= 5 {
            let found = differences(&logits_of(output), |logits| reference::selected(logits, &picked));
            let far = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
            assert!(far.fold(0.0, f64::max) < 1e-6, "{what}: differences {found:?}, expected {expected:?}");
        }
        let total: f64 = picked.iter().map(|(_, coefficient)| coefficient.abs()).sum();
        for (&found, &expected) in found[3][output * vocabulary..].iter().zip(&expected) {
            assert!((f64::from(found) - expected).abs() <= BOUND * total, "{what}: {found}, expected {expected}");
        }
    }
}

#[test]
fn selected_log_probabilities_equal_their_reference_there_and_back() {
    for vocabulary in [1, 2, 5, 16, 33, 512, 4097] {
        for (rows, picks, piece) in [(1, 1, 1), (1, 5, 1), (7, 20, 3)] {
            check_outputs(rows, vocabulary, picks, 1.0, piece);
            check_outputs(rows, vocabulary, picks, 12.0, piece);
        }
    }
    let mut draws = Draws(6);
    for _ in 0..20 {
        check_outputs(draws.size(30), draws.size(700), draws.size(60), 6.0, draws.size(5));
    }
}
