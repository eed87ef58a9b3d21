//! Between the built-in models and the tensors that travel.

use sordino_codec::{Dtype, Layout, TensorSpec, Tensors};

use super::model::{Architecture, MAX_PARAMETERS, ModelError};

impl Architecture {
    /// The built-in model whose tensors these are, by their names and shapes; any of the storage types will do.
    ///
    /// # Errors
    /// [`ModelError::Unknown`] lists what was found, [`ModelError::Size`] refuses empty models.
    pub fn of(layout: &Layout) -> Result<Self, ModelError> {
        let tensors: Vec<(&str, &[usize])> = layout.specs().iter().map(|spec| (spec.name(), spec.shape())).collect();
        // In the layout's order, which is ascending by name.
        let found = match tensors[..] {
            [("fc.bias", &[bias]), ("fc.weight", &[classes, features])] if bias == classes => {
                Some(Self::Softmax { features, classes })
            }
            [
                ("fc1.bias", &[bias_first]),
                ("fc1.weight", &[hidden, features]),
                ("fc2.bias", &[bias_second]),
                ("fc2.weight", &[classes, inputs]),
            ] if bias_first == hidden && inputs == hidden && bias_second == classes => {
                Some(Self::Mlp { features, hidden, classes })
            }
            _ => None,
        };
        let architecture = found.ok_or_else(|| ModelError::Unknown { found: listing(&tensors) })?;
        architecture.parameters()?;
        Ok(architecture)
    }

    /// The tensors of this model, as f32.
    ///
    /// # Errors
    /// [`ModelError::Size`].
    pub fn layout(self) -> Result<Layout, ModelError> {
        self.parameters()?;
        let named = |name: &str, shape: &[usize]| TensorSpec::new(name, shape.to_vec(), Dtype::F32);
        let specs = match self {
            Self::Softmax { features, classes } => {
                vec![named("fc.bias", &[classes])?, named("fc.weight", &[classes, features])?]
            }
            Self::Mlp { features, hidden, classes } => vec![
                named("fc1.bias", &[hidden])?,
                named("fc1.weight", &[hidden, features])?,
                named("fc2.bias", &[classes])?,
                named("fc2.weight", &[classes, hidden])?,
            ],
        };
        Ok(Layout::new(specs, MAX_PARAMETERS)?)
    }

    /// A model to begin with; see [`Self::initial_values`].
    ///
    /// # Errors
    /// [`ModelError::Size`].
    pub fn initial(self, seed: u64) -> Result<Tensors, ModelError> {
        Ok(Tensors::new(self.layout()?, self.initial_values(seed)?)?)
    }
}

/// Names and shapes for a message; a file may have thousands.
fn listing(tensors: &[(&str, &[usize])]) -> String {
    const SHOWN: usize = 6;
    let mut parts: Vec<String> = tensors.iter().take(SHOWN).map(|(name, shape)| format!("{name} {shape:?}")).collect();
    if tensors.len() > SHOWN {
        parts.push(format!("and {} more", tensors.len() - SHOWN));
    }
    parts.join(", ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    const MLP: Architecture = Architecture::Mlp { features: 3, hidden: 4, classes: 2 };
    const SOFTMAX: Architecture = Architecture::Softmax { features: 3, classes: 2 };

    #[test]
    fn a_model_is_known_by_its_tensors() {
        for architecture in [MLP, SOFTMAX] {
            let model = architecture.initial(1).unwrap();
            assert_eq!(Architecture::of(model.layout()).unwrap(), architecture);
            assert_eq!(model.values(), architecture.initial_values(1).unwrap());
        }
        let model = MLP.initial(1).unwrap();
        assert_eq!(model.get("fc1.weight").unwrap(), &model.values()[4..16]);
        assert_eq!(model.get("fc2.bias").unwrap(), [0.0; 2]);
    }

    #[test]
    fn other_tensors_are_refused_by_name() {
        let layout = |tensors: &[(&str, &[usize])]| {
            let specs = tensors.iter().map(|(name, shape)| TensorSpec::new(*name, shape.to_vec(), Dtype::F16).unwrap());
            Layout::new(specs.collect(), 1 << 20).unwrap()
        };
        let half = layout(&[("fc.bias", &[2]), ("fc.weight", &[2, 3])]);
        assert_eq!(Architecture::of(&half).unwrap(), SOFTMAX);
        for tensors in [
            &[("fc.bias", &[3][..]), ("fc.weight", &[2, 3])][..],
            &[("fc.bias", &[2]), ("fc.weight", &[2, 3, 1])],
            &[("fc.weight", &[2, 3])],
            &[("fc1.bias", &[4]), ("fc1.weight", &[4, 3]), ("fc2.bias", &[2]), ("fc2.weight", &[2, 5])],
        ] {
            let error = Architecture::of(&layout(tensors)).unwrap_err();
            assert!(matches!(&error, ModelError::Unknown { .. }), "{tensors:?}: {error}");
            assert!(error.to_string().contains("fc"), "{error}");
        }
    }
}
