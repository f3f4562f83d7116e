import { expect, it } from 'vitest'
import * as losscape from '../lib/index.js'

it('exports what is documented, and nothing by accident', () => {
  expect(Object.keys(losscape).sort()).toEqual(
    [
      // devices and programs on them
      ...['open', 'compile', 'chromeTrace', 'LosscapeError'],
      // data, models, training
      ...['data', 'models', 'train', 'evaluate', 'predictor'],
      ...[
        'createRun',
        ...['deitRecipe', 'DEIT_CROP_RATIO'],
        'openRun',
        'saveModel',
        'loadModel',
        'loadStart',
        'loadStartState',
        'loadState',
        'loadTimm',
        'loadTorchvision',
        'saveCheckpoint',
        'loadCheckpoint',
      ],
      ...['segmentationScores', 'ConfusionMatrix', 'pixelClasses'],
      // curvature
      ...['hessian', 'gaussNewton', 'remainder', 'operatorFrom', 'denseOperator', 'checkOperator'],
      ...['fisher', 'fisherMonteCarlo', 'empiricalFisher', 'gradientCovariance'],
      'gaussNewtonDiagonal',
      'classStructure',
      ...['shifted', 'scaled', 'negated', 'squared', 'summed', 'masked', 'preconditioned'],
      ...['inverse', 'finiteDifference', 'lobpcg', 'powerIteration', 'subspaceIteration'],
      'blockLanczos',
      ...['lanczos', 'slq', 'hutchinsonTrace', 'denseMatrix', 'exactSpectrum', 'tridiagonalEigen'],
      ...['density', 'symmetricLogDensity', 'cumulative', 'cumulativeBand', 'wasserstein1'],
      ...['functional', 'functionals', 'wassersteinBound'],
      ...['operatorTrace', 'diagonal', 'frobenius', 'spectralNorm'],
      // attention
      ...['karatAttention', 'karatParameters', 'karatWeights', 'attentionWeights'],
      ...['attentionScores', 'karatActivationFlops', 'karatParameterCount'],
      // analyses
      ...['countOutliers', 'linePath', 'subspaceOverlap', 'gradientOverlap', 'decompositionGap'],
      ...['pcaPlane', 'lossSurface', 'surfaceRoughness'],
      ...['singularValues', 'lowRankSingularValues'],
      ...['attentionAnatomy', 'attentionMatrices', 'attentionSpectrum', 'attentionMaps'],
      ...['attentionCost', 'attentionCounts', 'histogram', 'weightHistograms', 'headHistograms'],
      ...['attentionStudent', 'attentionTransferSet'],
      ...['eliminationMeasures', 'standardNormalDivergence', 'symmetricDivergence'],
      ...['squaredWasserstein2', 'gaussianActivity', 'channelStatistics', 'spreadAffine'],
      ...['gradientSmoothness', 'flatDirections', 'standardizedFilters'],
      ...['standardizationRatios', 'layerRatios'],
      // programs
      ...['ops', 'trace', 'verify', 'formatProgram', 'simplify', 'evaluateReference'],
      ...['grad', 'valueAndGrad', 'jvp', 'linearize', 'vjp', 'hessianVectorProduct', 'vmap'],
      ...['gradProgram', 'jvpProgram', 'vjpProgram', 'vmapProgram', 'linearizeProgram'],
      ...['tapNames', 'withTaps'],
    ].sort(),
  )
  expect(Object.keys(losscape.models).sort()).toEqual(
    [
      ...['define', 'parse', 'parseAttention', 'mlp', 'vit', 'convit', 'swin'],
      ...['resnet', 'resnext', 'cifarResnet', 'resnet20', 'vgg', 'lenet', 'segmentation'],
      ...['fold', 'standardizedWeights', 'adaptiveStandardization'],
    ].sort(),
  )
})
