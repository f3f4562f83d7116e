import type { DataSet } from '../data/dataset.js'
import type { Device } from '../device/device.js'
import type { Model } from '../nn/model.js'
import type { DrawOptions } from './draws.js'
import type { DeviceOperator } from './native-operator.js'
import { type CurvatureOptions, networkOperator } from './network.js'

/**
 * The Fisher information of the model's own distribution of targets, in closed form:
 * (1/N) Σ_i E_ŷ[∇log p(ŷ | z_i) ∇log p(ŷ | z_i)ᵀ] = (1/N) Σ J_iᵀ I_i J_i with
 *
 * | loss                     | targets ŷ           | I                      |
 * |--------------------------|---------------------|------------------------|
 * | cross-entropy            | softmax(z)          | W (diag(p) - p pᵀ)     |
 * | logistic, margin-logistic| σ(z)                | σ (1 - σ)              |
 * | mse                      | N(z, (C/2) I)       | (2/C) I                |
 * | half-squared-error       | N(z, I)             | I                      |
 *
 * which for all of these is the Gauss-Newton matrix; for `mse`, C/2 times it is the information of
 * noise with variance 1. Class weights W count a sample by its true label, as in the loss;
 * smoothing changes the targets, not the model's distribution. A product costs what
 * {@link gaussNewton}'s does. Martens, arXiv 1412.1193, section 9.
 *
 * @throws ERR_ARGUMENT for a loss without a likelihood (hinge), and as `hessian` does
 */
export function fisher(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: CurvatureOptions = {},
): DeviceOperator {
  return networkOperator('fisher', device, model, params, set, options)
}

/**
 * An unbiased estimate of {@link fisher} from S drawn targets per sample,
 * (1/N) Σ_i (1/S) Σ_s J_iᵀ ŝ_is ŝ_isᵀ J_i. Positive semi-definite of rank at most N S. The targets
 * depend on (seed, index of the sample in the data set, s) only: the operator is deterministic, and
 * the same for any chunks, subset or number of vectors. A product costs 4 products per weight
 * matrix, for S = 1 only 2.
 *
 * @throws ERR_ARGUMENT for a loss without a likelihood, and as `hessian` does
 */
export function fisherMonteCarlo(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: CurvatureOptions & DrawOptions = {},
): DeviceOperator {
  return networkOperator('fisher-monte-carlo', device, model, params, set, options)
}

/**
 * The empirical Fisher E = (1/N) Σ g_i g_iᵀ, g_i = J_iᵀ r_i the gradient of sample i's loss at its
 * true target: the uncentred second moment of gradients, for any loss. tr E = mean ||g_i||². It is
 * not the Fisher information (Kunstner et al., arXiv 1905.12558). A product costs 2 products per
 * weight matrix while cotangents and activations are kept, half of {@link gaussNewton}'s.
 *
 * @throws as `hessian` does
 */
export function empiricalFisher(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: CurvatureOptions = {},
): DeviceOperator {
  return networkOperator('empirical-fisher', device, model, params, set, options)
}

/**
 * The covariance of the samples' gradients, E - ḡ ḡᵀ = (1/N) Σ (g_i - ḡ)(g_i - ḡ)ᵀ with the mean
 * gradient ḡ over the data set (for reduction 'sum', N times that). Centred inside the sum, so that
 * no digits go to a difference of two products. A penalty moves all gradients alike, so that
 * `weightDecay` is not added. Costs what {@link empiricalFisher} does, and one gradient before the
 * first product.
 *
 * @throws as `hessian` does
 */
export function gradientCovariance(
  device: Device,
  model: Model,
  params: ArrayLike<number>,
  set: DataSet,
  options: CurvatureOptions = {},
): DeviceOperator {
  return networkOperator('gradient-covariance', device, model, params, set, options)
}
