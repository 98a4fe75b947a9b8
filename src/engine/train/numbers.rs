//! The numbers of a training, where its optimiser works on them: in memory, or on the device of its graph.

use anyhow::Result;
use candle_core::Tensor;
use std::borrow::Cow;

/// Numbers of one parameter: its values, its gradient, what is remembered of that.
#[derive(Clone, Debug)]
pub enum Numbers {
    /// In memory, in the order of the tensor.
    Host(Vec<f32>),
    /// A tensor of f32 on some device.
    Device(Tensor),
}

/// The same numbers, wherever they are.
impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        matches!((self.host(), other.host()), (Ok(own), Ok(others)) if own == others)
    }
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(values) => values.len(),
            Self::Device(tensor) => tensor.elem_count(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In memory.
    pub fn host(&self) -> Result<Cow<'_, [f32]>> {
        Ok(match self {
            Self::Host(values) => values.into(),
            Self::Device(tensor) => tensor.flatten_all()?.to_vec1::<f32>()?.into(),
        })
    }

    /// As many zeros at the same place.
    pub fn zeros(&self) -> Result<Self> {
        Ok(match self {
            Self::Host(values) => Self::Host(vec![0.0; values.len()]),
            Self::Device(tensor) => Self::Device(tensor.zeros_like()?),
        })
    }

    /// Adds others of the same place.
    pub fn add(&mut self, others: &Self) -> Result<()> {
        match (self, others) {
            (Self::Host(sum), Self::Host(values)) => sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
            (Self::Device(sum), Self::Device(values)) => *sum = (&*sum + values)?,
            _ => anyhow::bail!("numbers of two places cannot be added"),
        }
        Ok(())
    }

    /// Multiplies all by one number.
    pub fn scale(&mut self, factor: f32) -> Result<()> {
        match self {
            Self::Host(values) => values.iter_mut().for_each(|value| *value *= factor),
            Self::Device(tensor) => *tensor = (&*tensor * f64::from(factor))?,
        }
        Ok(())
    }

    /// Whether all are finite.
    pub fn are_finite(&self) -> Result<bool> {
        Ok(self.host()?.iter().all(|value| value.is_finite()))
    }
}

/// The Euclidean norm of all together.
pub fn norm(all: &[Numbers]) -> Result<f64> {
    let of_tensors = scalars(all.iter().filter_map(|numbers| match numbers {
        Numbers::Device(tensor) => Some(tensor.sqr().and_then(|squares| squares.sum_all())),
        Numbers::Host(_) => None,
    }))?;
    let of_slices = all.iter().filter_map(|numbers| match numbers {
        Numbers::Host(values) => Some(values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>()),
        Numbers::Device(_) => None,
    });
    Ok(of_slices.chain(of_tensors.into_iter().map(f64::from)).sum::<f64>().sqrt())
}

/// Scalars of a device in one transfer.
pub fn scalars(tensors: impl Iterator<Item = candle_core::Result<Tensor>>) -> Result<Vec<f32>> {
    let tensors: Vec<Tensor> = tensors.collect::<candle_core::Result<_>>()?;
    if tensors.is_empty() { Ok(Vec::new()) } else { Ok(Tensor::stack(&tensors, 0)?.to_vec1()?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn both_places_give_the_same() {
        let numbers = |values: &[f32]| {
            let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
            [Numbers::Host(values.to_vec()), Numbers::Device(tensor)]
        };
        for (mut own, others) in numbers(&[3.0, 0.5]).into_iter().zip(numbers(&[0.0, 3.5])) {
            own.add(&others).unwrap();
            assert_eq!(norm(std::slice::from_ref(&own)).unwrap(), 5.0);
            assert_eq!(norm(&[own.clone(), own.zeros().unwrap(), own.clone()]).unwrap(), 50f64.sqrt());
            own.scale(0.5).unwrap();
            assert_eq!((own.host().unwrap().as_ref(), own.len()), ([1.5, 2.0].as_slice(), 2));
            assert!(own.are_finite().unwrap());
            own.scale(f32::INFINITY).unwrap();
            assert!(!own.are_finite().unwrap());
        }
        let [host, device] = numbers(&[1.0]);
        assert!(host == device && host.clone().add(&device).is_err());
    }
}
