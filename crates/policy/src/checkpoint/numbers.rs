//! The number formats of checkpoints, to f32 and back.
//!
//! Every bf16 and every f16 is exactly an f32. The way back rounds to nearest, ties to even, so a number
//! that was read and not changed is written as the same bits.

use safetensors::Dtype;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    Bf16,
    F16,
    /// Not read as numbers.
    Other(Dtype),
}

impl Format {
    pub(crate) fn of(dtype: Dtype) -> Format {
        match dtype {
            Dtype::F32 => Format::F32,
            Dtype::BF16 => Format::Bf16,
            Dtype::F16 => Format::F16,
            other => Format::Other(other),
        }
    }

    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Format::F32 => Dtype::F32,
            Format::Bf16 => Dtype::BF16,
            Format::F16 => Dtype::F16,
            Format::Other(dtype) => dtype,
        }
    }

    /// Bytes of one number.
    pub(super) fn bytes(self) -> usize {
        if self == Format::F32 { 4 } else { 2 }
    }

    /// Reads whole numbers.
    pub(super) fn decode(self, bytes: &[u8], into: &mut Vec<f32>) {
        match self {
            Format::F32 => into.extend(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes))),
            Format::F16 => into.extend(bytes.as_chunks().0.iter().map(|&bytes| from_f16(u16::from_le_bytes(bytes)))),
            Format::Bf16 | Format::Other(_) => into.extend(
                bytes.as_chunks().0.iter().map(|&bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)),
            ),
        }
    }

    /// Writes numbers; gives the first that the format cannot hold.
    pub(super) fn encode(self, values: &[f32], into: &mut Vec<u8>) -> Result<(), f32> {
        match self {
            Format::F32 => into.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Format::F16 => {
                for &value in values {
                    let bits = to_f16(value);
                    if bits & 0x7c00 == 0x7c00 {
                        return Err(value);
                    }
                    into.extend(bits.to_le_bytes());
                }
            }
            Format::Bf16 | Format::Other(_) => {
                for &value in values {
                    let bits = to_bf16(value);
                    if bits & 0x7f80 == 0x7f80 {
                        return Err(value);
                    }
                    into.extend(bits.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

/// IEEE half precision; every half is exactly a single.
fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff);
    let size = match rest {
        // Subnormal: a whole multiple of 2⁻²⁴.
        ..0x400 => (rest as f32 * 2f32.powi(-24)).to_bits(),
        0x400..0x7c00 => (rest << 13) + (112 << 23),
        _ => (rest << 13) | 0x7f80_0000,
    };
    f32::from_bits(sign | size)
}

fn to_f16(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16 & 0x8000) as u16;
    let size = value.abs();
    let rest = if size.is_nan() {
        0x7e00
    } else if size >= 65520.0 {
        // Half of the way from the largest half to what would come next.
        0x7c00
    } else if size < 2f32.powi(-14) {
        // A scaling by a power of two is exact, and the cast is after rounding to a whole number.
        (size * 2f32.powi(24)).round_ties_even() as u16
    } else {
        (round_off(size.to_bits(), 13) - (112 << 10)) as u16
    };
    sign | rest
}

fn to_bf16(value: f32) -> u16 {
    if value.is_nan() { 0x7fc0 } else { round_off(value.to_bits(), 16) as u16 }
}

/// Drops the lowest bits, rounding to nearest, ties to even. A carry into the exponent is the right result.
fn round_off(bits: u32, low: u32) -> u32 {
    let odd = bits >> low & 1;
    let (sum, over) = bits.overflowing_add((1 << (low - 1)) - 1 + odd);
    if over { u32::MAX >> low } else { sum >> low }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(format: Format, bits: u16) -> u16 {
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        format.decode(&bits.to_le_bytes(), &mut values);
        format.encode(&values, &mut bytes).unwrap();
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    #[test]
    fn every_finite_half_comes_back() {
        for bits in 0..=u16::MAX {
            if bits & 0x7c00 != 0x7c00 {
                assert_eq!(round_trip(Format::F16, bits), bits, "{bits:#06x}");
            }
            if bits & 0x7f80 != 0x7f80 {
                assert_eq!(round_trip(Format::Bf16, bits), bits, "{bits:#06x}");
            }
        }
    }

    /// Between neighbours the nearer one is taken, in the middle the even one.
    #[test]
    fn numbers_between_two_halves_go_to_the_nearer_one() {
        for (format, largest) in [(Format::F16, 0x7bff), (Format::Bf16, 0x7f7f)] {
            let value = |bits: u16| {
                let mut values = Vec::new();
                format.decode(&bits.to_le_bytes(), &mut values);
                values[0]
            };
            let back = |value: f32| {
                let mut bytes = Vec::new();
                format.encode(&[value], &mut bytes).unwrap();
                u16::from_le_bytes([bytes[0], bytes[1]])
            };
            for bits in (0..largest - 1).step_by(7) {
                // Halves of the sum are exact in f32 except for subnormals of bf16.
                let (low, high) = (value(bits), value(bits + 1));
                let middle = low + (high - low) / 2.0;
                let even = bits + bits % 2;
                assert_eq!(back(middle), even, "{format:?} {bits:#06x}");
                if middle.next_down() > low {
                    assert_eq!(back(middle.next_down()), bits, "{format:?} {bits:#06x}");
                    assert_eq!(back(middle.next_up()), bits + 1, "{format:?} {bits:#06x}");
                    assert_eq!(back(-middle.next_up()), (bits + 1) | 0x8000, "{format:?} {bits:#06x}");
                }
            }
        }
    }

    #[test]
    fn what_a_format_cannot_hold_is_named() {
        let encode = |format: Format, value: f32| format.encode(&[1.0, value], &mut Vec::new());
        assert_eq!(encode(Format::F16, 65519.0), Ok(()));
        assert_eq!(encode(Format::F16, -65520.0), Err(-65520.0));
        assert_eq!(encode(Format::Bf16, f32::MAX), Err(f32::MAX));
        assert!(encode(Format::F16, f32::NAN).is_err() && encode(Format::Bf16, f32::NAN).is_err());
        assert_eq!(encode(Format::F32, f32::MAX), Ok(()));
    }
}
