#!/usr/bin/env bash
# Draw the pictures of docs/images: compose scenes, train small models on them, draw what they do.
# The same call, started again, trains nothing anew.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
export PYTHONPATH=$PWD
OUT=docs/images
SCENES=data/scenes/ade/images/validation
TWO=work_dirs/pictures/two

run() {
    echo "--- $*"
    "$PYTHON" "$@"
}
draw() { # TOOL ARGUMENTS
    run "tools/visualization/$1.py" "${@:2}"
}
model() { # COMPARISON CELL: its config and its checkpoint
    echo "work_dirs/compare/$1/configs/$2.py $(cat "work_dirs/compare/$1/cells/$2/last_checkpoint")"
}

[ -d data/scenes ] || run tools/dataset_converters/compose_scenes.py data/scenes --train 300 --val 60
run tools/compare.py configs/mmseg/fpn_pvt_tiny_scenes.py --seeds 1 --repeat 0 \
    --mergings conv deformable hafa stepwise
run tools/compare.py configs/mmseg/fpn_pvt_tiny_scenes.py --seeds 1 --repeat 0 --work-dir work_dirs/compare/backbones \
    --backbones SGFormer/small LIT/tiny
run tools/compare.py configs/mmpretrain/pvt_tiny_scenes.py --seeds 1 --repeat 0 --work-dir work_dirs/compare/paca \
    --backbones PaCaViT/tiny --cfg-options train_cfg.max_iters=150 train_cfg.val_interval=150 \
    param_scheduler.1.end=150

read -r CONV CONV_PTH <<< "$(model fpn_pvt_tiny_scenes conv_seed0)"
read -r DTM DTM_PTH <<< "$(model fpn_pvt_tiny_scenes deformable_seed0)"
read -r HAFA HAFA_PTH <<< "$(model fpn_pvt_tiny_scenes hafa_seed0)"
read -r SPM SPM_PTH <<< "$(model fpn_pvt_tiny_scenes stepwise_seed0)"
read -r SG SG_PTH <<< "$(model backbones SGFormer_small_seed0)"
read -r LIT LIT_PTH <<< "$(model backbones LIT_tiny_seed0)"
read -r PACA PACA_PTH <<< "$(model paca PaCaViT_tiny_seed0)"
mkdir -p $TWO
cp $SCENES/scene_val_0000{02,25}.jpg $TWO

draw segmentation "$CONV" $OUT/overview.png --checkpoint "$CONV_PTH" --beside "$DTM" "$DTM_PTH" \
    --beside "$HAFA" "$HAFA_PTH" --beside "$SPM" "$SPM_PTH" --picture 2 \
    --names convolution deformable HAFA 'stepwise (SPM)' \
    --title 'Semantic FPN on PVT-Tiny with four mergings, 160 iterations on composed scenes'
draw attention_map "$SPM" $TWO $OUT/attention_map.png --checkpoint "$SPM_PTH" --beside "$CONV" "$CONV_PTH" \
    --stage 2 --names SPM convolution
draw feature_maps "$SPM" $SCENES/scene_val_000002.jpg $OUT/feature_maps.png --checkpoint "$SPM_PTH" \
    --beside "$CONV" "$CONV_PTH" --merging 1 --names SPM convolution
draw receptive_field "$CONV" $SCENES $OUT/receptive_field.png --checkpoint "$CONV_PTH" --size 128 128 \
    --beside "$SPM" "$SPM_PTH" --names convolution SPM
draw flops_by_module configs/mmpretrain/pvt_tiny_spm_in1k.py $OUT/flops_by_module.png --as-published \
    --beside configs/mmpretrain/pvt_tiny_in1k.py
draw token_clusters "$HAFA" $TWO $OUT/token_clusters.png --checkpoint "$HAFA_PTH" \
    --beside "$CONV" "$CONV_PTH" --names HAFA convolution
draw sampling_positions "$DTM" $TWO $OUT/sampling_positions.png --checkpoint "$DTM_PTH" --place 0.55 0.35 \
    --names 'PVT-Tiny with deformable merging'
draw significance "$SG" $TWO $OUT/significance.png --checkpoint "$SG_PTH" --beside "$CONV" \
    --names 'SG-Former-Small' 'PVT-Tiny'
draw attention_heads "$LIT" $SCENES $OUT/attention_heads.png --checkpoint "$LIT_PTH" --names 'LIT-Tiny'
draw clusters "$PACA" data/scenes/imagenet/val/clock/scene_val_000022.jpg $OUT/clusters.png \
    --checkpoint "$PACA_PTH" --stage 3 --names 'PaCa-ViT-Tiny'
rm $OUT/clusters_*
