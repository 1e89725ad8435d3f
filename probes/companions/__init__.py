"""What is installed beside torch and compiled against it fits it: torchvision, torchaudio, triton.

Why: each is built for one release of torch; beside another it is missing its operators, crashes, or
     computes wrong, and only the job that imports it finds out.
Fix: install all of them from one index and one lock file, in the versions that belong together.
Ref: https://github.com/pytorch/pytorch/issues/157648
     https://github.com/pytorch/vision#installation
"""
