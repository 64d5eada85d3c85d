default_scope = 'mmseg'
# What mmengine lacks (docs/guides/engine.md); delete a line to switch that off.
custom_hooks = [
    dict(type='spm_mm.SeveralMachinesHook'),
    dict(type='spm_mm.EarlyWorkersHook'),
    dict(type='spm_mm.IterationSeedHook'),
    dict(type='spm_mm.LastValidationHook'),
    dict(type='spm_mm.GroundTruthHook'),
    dict(type='spm_mm.FiniteLossHook'),
]
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [
    dict(type='LocalVisBackend'),
    # dict(type='TensorboardVisBackend'),
    # dict(type='WandbVisBackend'),
]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
tta_model = dict(type='SegTTAModel')
randomness = dict(seed=0)
