"Packaging, driven by `settings.ini` so that every fact stands in one place."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters=['='], interpolation=None)
config.read(Path(__file__).parent / 'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
minor = int(cfg['min_python'].split('.')[1])
STARTER = ('configs/*.yaml', 'data/README.md', 'data/us_daily/*.csv', 'nbs/tutorials/*.ipynb')  # as in nbs/78_init


class BuildWithStarter(build_py):
    "Puts into a wheel what `kronos_init` copies; an editable installation takes it from the clone."

    def run(self):
        super().run()
        if self.editable_mode:
            return
        root = Path(__file__).parent
        for source in sorted(p for pattern in STARTER for p in root.glob(pattern)):
            target = Path(self.build_lib) / 'kronos_nb/starter' / source.relative_to(root)
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(Path(__file__).parent / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=f"https://github.com/{cfg['user']}/{cfg['repo']}",
    license='MIT',
    keywords=cfg['keywords'].split(),
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Developers',
        'Intended Audience :: Financial and Insurance Industry',
        'Intended Audience :: Science/Research',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Natural Language :: English',
        *[f'Programming Language :: Python :: 3.{m}' for m in range(minor, 15)],
    ],
    packages=find_packages(include=['kronos_nb', 'kronos_nb.*']),
    package_data={'kronos_nb': ['py.typed', 'weights/*/*', 'weights/*/*/*']},  # type checkers may trust the signatures
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require={
        key.removesuffix('_requirements'): cfg[key].split() for key in cfg if key.endswith('_requirements')
    },
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
    },
    cmdclass={'build_py': BuildWithStarter},
    zip_safe=False,
)
