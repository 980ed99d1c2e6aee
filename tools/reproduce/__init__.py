"""The papers' claims put to the test on real models and images: one program per claim.

    python -m tools.reproduce.NAME --write docs/results.md

- shapley: LIFT-CAM's coefficients are the closest to Shapley values, and fast
- cams: LIFT-CAM outperforms other class activation maps
- signed: positive, negative, active and inactive saliency find what black and white pixels change
- hierarchies: the channels that a hierarchy names are those that matter
- hybrid: layer-wise predictions and filter importance

Each writes its own section and leaves the others as they are. Passes over images are kept in `--cache`, so
an interrupted one goes on. The real models and images are not part of the repository
(tests/conftest.py says where they are looked for).
"""
