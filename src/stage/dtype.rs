//! The type of what goes through a model on a graphics card.

crate::words! {
    /// The type of a model's weights and of what goes through it on a graphics card. On the processor everything is f32.
    pub enum Dtype {
        /// 32 bits.
        F32 = "f32",
        /// 16 bits, eight of them for the size: as far as f32 reaches.
        Bf16 = "bf16",
        /// 16 bits, five of them for the size: finer than bf16, and too large a number is none.
        F16 = "f16",
    }
}
