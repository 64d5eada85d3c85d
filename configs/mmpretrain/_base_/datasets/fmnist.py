# Fashion-MNIST, 28 x 28 grey, 10 classes, 60,000 to train and 10,000 to test, in folders as
# tools/dataset_converters/idx_to_folders.py writes them; at 56 x 56.
_base_ = 'small_folders.py'
data_root = '{{$FMNIST_ROOT:data/fmnist}}'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=56),
    dict(type='RandomCrop', crop_size=56, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=56),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=64, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=100, dataset=dict(data_root=data_root, data_prefix='test', pipeline=test_pipeline)
)
test_dataloader = val_dataloader
