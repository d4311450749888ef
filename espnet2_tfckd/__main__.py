"""``python -m espnet2_tfckd`` is the command espnet2-tfckd."""

from espnet2_tfckd.deploy.command import main

if __name__ == "__main__":
    main()
